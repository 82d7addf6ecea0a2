// Boxes that are wider than the page scroll sideways: whether there is more, and on which side, is shown at them.

/** Keep the cue and the shaded edges of a box in step with what is out of sight. */
export function watchScroll(box) {
  const place = box.parentElement;
  const cue = place.querySelector(".cue");
  const show = () => {
    const hidden = box.scrollWidth - box.clientWidth;
    const more = hidden > 1;
    if (cue) cue.hidden = !more;
    place.classList.toggle("left", more && box.scrollLeft > 1);
    place.classList.toggle("right", more && box.scrollLeft < hidden - 1);
    place.style.setProperty("--top", `${box.offsetTop}px`);
  };
  const sizes = new ResizeObserver(show);
  for (const node of [box, ...box.children]) sizes.observe(node);
  box.addEventListener("scroll", show, { passive: true });
  show();
}

/** Scroll a box sideways until a part of it is in sight, beside what stays fixed at its left. */
export function reveal(box, part, fixed = 0) {
  const [outer, inner] = [box.getBoundingClientRect(), part.getBoundingClientRect()];
  const room = inner.width; // a neighbour is seen, too
  const left = inner.left - room - (outer.left + fixed);
  const right = inner.right + room - outer.right;
  if (left < 0) box.scrollLeft += left;
  else if (right > 0) box.scrollLeft += right;
}

export function startScrolling() {
  for (const box of document.querySelectorAll(".scroller > .scroll")) watchScroll(box);
}
