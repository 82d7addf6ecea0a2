"""The page's scripts: what they say they need is there and is used, and nothing else is reached for."""

import re
import shutil
import subprocess

import pytest

from completions_lp.show.page.bundle import bundle_modules, parse_module
from completions_lp.show.page.document import read_scripts

SCRIPTS = read_scripts()
MODULES = {name: parse_module(source, name) for name, source in SCRIPTS.items()}
A = 'import { b } from "./b.js";\n\nexport const a = b + 1;\n'
B = "export const b = 1;\n"
NAME = r"(?<![\w$])(?:(?<!\.)|(?<=\.\.\.))"  # not inside a word, and no property of something


def strip_words(code):
    """Code without comments and quoted text; of templates the code that stands in them is left."""
    kept, inside, i = [], [], 0  # inside: how many braces are open in the code of each template around this place
    while i < len(code):
        skipped = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.S).match(code, i)
        ends = bool(inside) and inside[-1] == 0 and code[i] == "}"
        if skipped:
            i = skipped.end()
        elif code[i] == "`" or ends:
            text = re.compile(r"(?:[^`$\\]|\\.|\$(?!\{))*(`|\$\{)", re.S).match(code, i + 1)
            inside = inside[:-1] if ends else inside
            inside += [0] if text[1] == "${" else []
            i = text.end()
            kept.append(" ")
        else:
            if inside:
                inside[-1] += {"{": 1, "}": -1}.get(code[i], 0)
            kept.append(code[i])
            i += 1
    return "".join(kept)


def list_foreign(code, own, exported):
    """Names that other modules export and this code reads, though it neither imports nor declares them."""
    code = strip_words(code)
    declared = set(re.findall(r"(?:const|let|function|class)\s+(\w+)", code)) | set(own)
    for names in re.findall(r"(?:const|let)\s*[{\[]([^}\]=]*)[}\]]\s*=", code):
        declared |= set(re.findall(r"\w+", names))
    for names in re.findall(r"\(([^()]*)\)\s*=>|function\s*\w*\s*\(([^()]*)\)|(\w+)\s*=>", code):
        declared |= set(re.findall(r"\w+", " ".join(names)))
    read = set(re.findall(rf"{NAME}([A-Za-z_]\w*)\b(?!\s*:)", code))
    return sorted((read & exported) - declared)


def test_words_are_no_code():
    code = 'a("b // c", `d ${e({ f: `g ${h}` })} i ${"j"} k`); // l\n/* m */ n'
    assert re.findall(r"\w", strip_words(code)) == list("aefhn")


def test_every_import_is_there_and_the_page_is_made_of_all_modules():
    text = bundle_modules(SCRIPTS, "main")
    assert all(f"const module_{name} = " in text for name in SCRIPTS)
    assert not re.search(r"^(import|export)\b", text, re.M)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_is_used_and_no_other_module_is_reached_for(name):
    module = MODULES[name]
    imported = {word for words in module.imports.values() for word in words}
    code = strip_words(module.code)
    assert [word for word in imported if not re.search(rf"{NAME}{word}\b", code)] == []
    exported = {word for other, one in MODULES.items() if other != name for word in one.exports}
    assert list_foreign(module.code, imported, exported) == []


def test_every_export_is_imported_somewhere():
    imported = {(other, word) for one in MODULES.values() for other, words in one.imports.items() for word in words}
    assert {(name, word) for name, one in MODULES.items() for word in one.exports} == imported


def test_a_name_that_is_not_imported_would_be_found():
    code = MODULES["heatmap"].code
    exported = set(MODULES["words"].exports)
    assert list_foreign(code, set(), exported) != []
    assert list_foreign("const f = (x) => write(x); // label", set(), exported) == ["write"]
    assert list_foreign(
        "const g = { label: 1 }; const f = (write) => write(`${minus(g.write)}`);", set(), exported
    ) == ["minus"]


@pytest.mark.skipif(not shutil.which("node"), reason="node is not here")
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_a_module_for_node(name, tmp_path):
    path = tmp_path / f"{name}.mjs"
    path.write_text(SCRIPTS[name], encoding="utf-8")
    done = subprocess.run(["node", "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_modules_come_after_what_they_import_and_keep_their_scope():
    text = bundle_modules({"a": A, "b": B + "const hidden = 2;\n"}, "a")
    assert text.index("const module_b") < text.index("const module_a")
    assert "const { b } = module_b;" in text
    assert "return { b };" in text


@pytest.mark.skipif(not shutil.which("node"), reason="node is not here")
def test_a_bundle_runs_as_its_modules_would(tmp_path):
    sources = {
        "main": 'import { a } from "./a.js";\nimport { b, add } from "./b.js";\n\nconst hidden = 5;\nconsole.log(a, b, '
        "add(hidden));\n",
        "a": A,
        "b": B + "const hidden = 40;\nexport function add(x) {\n  return x + hidden;\n}\n",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.js").write_text(source)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "bundle.cjs").write_text(bundle_modules(sources, "main"))
    said = [
        subprocess.run(["node", str(tmp_path / name)], capture_output=True, text=True, check=True).stdout
        for name in ("main.js", "bundle.cjs")
    ]
    assert said == ["2 1 45\n"] * 2


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"a": A, "b": "export const c = 1;\n"}, r"a\.js imports b, which b\.js does not export"),
        ({"a": A}, r"a\.js imports from b\.js, which is not there"),
        ({"a": A, "b": 'import { a } from "./a.js";\n' + B}, "in a circle: a -> b -> a"),
        ({"a": A, "b": B, "c": B}, r"c\.js: imported by no module"),
        ({"a": A, "b": "export let b = 1;\n"}, r"b\.js: 'export let b = 1;' is not understood"),
        ({"a": 'import * as b from "./b.js";\n', "b": B}, "is not understood"),
        ({"a": A, "b": B + "export { c };\n"}, "is not understood"),
    ],
)
def test_what_does_not_fit_together_is_an_error(sources, message):
    with pytest.raises(ValueError, match=message):
        bundle_modules(sources, "a")
