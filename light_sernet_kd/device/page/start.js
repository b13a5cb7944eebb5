// Without a web server a browser loads no module, so this script says what is missing.

addEventListener("DOMContentLoaded", () => {
  if (location.protocol !== "file:") return;
  document.getElementById("status").textContent = "";
  const error = document.getElementById("error");
  error.textContent =
    "This page needs a web server. In its folder start one, such as: python -m http.server 8000 " +
    "--bind 127.0.0.1. Then open http://127.0.0.1:8000/.";
  error.hidden = false;
});
