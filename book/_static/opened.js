// The theme lets the keyboard scroll what is wider than its box, and looks for it when the window is resized; what a reader unfolds needs the same look.
for (const what of ["toggle", "click"]) {
  document.addEventListener(what, () => window.dispatchEvent(new Event("resize")), true);
}
