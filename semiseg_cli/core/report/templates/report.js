document.documentElement.classList.add("scripted");
for (const range of document.querySelectorAll(".slide input")) {
  const slide = range.closest(".slide");
  const show = () => slide.style.setProperty("--at", `${range.value}%`);
  range.addEventListener("input", show);
  show();
}
