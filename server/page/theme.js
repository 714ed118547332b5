// Before the first paint: the theme that was chosen here last, if any.
try {
  const theme = localStorage.getItem("trireme.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage is switched off: the system's theme it is */ }
