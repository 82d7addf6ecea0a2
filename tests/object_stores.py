"""File systems as object stores are: whole objects, no rename; each request is counted, and any may be refused."""

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem


class Objects(MemoryFileSystem):
    """Objects in memory that can be put, listed and got, and nothing else."""

    protocol = "objects"
    store = {}  # noqa: RUF012  fsspec's own has one of the class, too
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False
    asked = []  # noqa: RUF012
    """Requests so far: what, and of which object."""
    failing = {}  # noqa: RUF012
    """By request, what is raised instead."""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("objects://"))

    @classmethod
    def clear(cls):
        cls.store.clear()
        cls.asked.clear()
        cls.failing.clear()

    def _ask(self, what, path):
        Objects.asked.append((what, path))
        if what in self.failing:
            raise self.failing[what]

    def pipe_file(self, path, value, **options):
        self._ask("put", path)
        super().pipe_file(path, value, **options)

    def cat_file(self, path, start=None, end=None, **options):
        self._ask("get", path)
        return super().cat_file(path, start=start, end=end, **options)

    def ls(self, path, detail=True, **options):
        self._ask("list", path)
        return super().ls(path, detail=detail, **options)

    def mv(self, *_, **__):
        raise NotImplementedError("no rename")

    mv_file = rename = move = copy = cp_file = rm = rm_file = _rm = mv


class Unmoving(LocalFileSystem):
    """Files of this machine that cannot be renamed."""

    protocol = "unmoving"

    def mv(self, *_, **__):
        raise NotImplementedError("no rename")

    mv_file = rename = move = mv


for _kind in (Objects, Unmoving):
    fsspec.register_implementation(_kind.protocol, _kind, clobber=True)
