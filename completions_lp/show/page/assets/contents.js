// The table of contents: open where it stands beside the page, folded where it stands above it.

const WIDE = matchMedia("(min-width: 76rem)");

/** The last section that begins above the upper third of the window, or else the first. */
function markSection(links) {
  let here = links[0];
  for (const link of links) {
    const section = document.getElementById(link.hash.slice(1));
    if (section.getBoundingClientRect().top < innerHeight / 3) here = link;
  }
  for (const link of links) {
    if (link === here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

export function startContents() {
  const details = document.querySelector("#contents details");
  const back = document.querySelector(".back");
  const links = [...details.querySelectorAll("a")];
  const fold = () => {
    details.open = WIDE.matches;
  };
  WIDE.addEventListener("change", fold);
  fold();
  let waiting = false;
  const mark = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      markSection(links);
      back.hidden = details.getBoundingClientRect().bottom > 0;
    });
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
  back.addEventListener("click", () => {
    details.open = true;
  });
}
