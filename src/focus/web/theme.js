// Light or dark theme: the system's, unless the button was pressed. Loaded before anything is drawn.

(() => {
  const system = matchMedia('(prefers-color-scheme: light)');
  const root = document.documentElement;
  const chosen = () => localStorage.getItem('rialto.theme');
  const shown = () => chosen() ?? (system.matches ? 'light' : 'dark');

  function apply() {
    if (chosen()) root.dataset.theme = chosen();
    else delete root.dataset.theme;
    const button = document.getElementById('theme');
    if (!button) return;
    const other = shown() === 'light' ? 'dark' : 'light';
    button.dataset.shown = shown();
    button.title = `Use the ${other} theme`;
    button.setAttribute('aria-label', button.title);
  }

  /**
   * Switches the theme. A choice equal to the system's is not stored, so that the page follows the
   * system again.
   */
  function toggle() {
    const other = shown() === 'light' ? 'dark' : 'light';
    if ((other === 'light') === system.matches) localStorage.removeItem('rialto.theme');
    else localStorage.setItem('rialto.theme', other);
    apply();
  }

  apply();
  system.addEventListener('change', apply);
  document.addEventListener('DOMContentLoaded', () => {
    apply();
    document.getElementById('theme')?.addEventListener('click', toggle);
  });
})();
