// Sets the chosen colours before anything is drawn. This is a classic script, because modules run after the first paint.
(() => {
  try {
    const theme = localStorage.getItem("tenon.theme");
    if (theme) document.documentElement.dataset.theme = theme;
  } catch {
    // The browser forbids it: the page has the system's colours.
  }
})();
