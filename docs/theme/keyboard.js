// Code and tables that scroll can be reached by the keyboard, and the search has a name for screen readers.
function reachable() {
  document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach((element) => { element.tabIndex = 0; });
  document.querySelectorAll(".md-code__nav").forEach((element, at) => {
    element.setAttribute("aria-label", `Code ${at + 1}`);
  });
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
}
document$.subscribe(() => { reachable(); setTimeout(reachable, 300); });
