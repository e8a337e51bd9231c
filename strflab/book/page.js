// What a reader would miss on the page that this runs in. Each function returns a list of sentences, empty when all
// is well. `browser.py` puts this file into every page before the page's own scripts, and calls the functions.
window.strflabPage = (() => {
  const OPERABLE = "a[href], button, summary, input, select, textarea, [role=button], [role=link], [role=tab], [onclick]";
  const CONTRAST = { normal: 4.5, large: 3 }; // WCAG 2.2, level AA

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  const isSeen = (element) => {
    const box = element.getBoundingClientRect(); // words for a screen reader alone are cut to one pixel
    return element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && box.width > 1 && box.height > 1;
  };

  const describe = (element) => {
    const id = element.id ? `#${element.id}` : "";
    const classes = typeof element.className === "string" ? element.className.trim().split(/\s+/).filter(Boolean) : [];
    const text = (element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
    const name = element.tagName.toLowerCase() + id + classes.slice(0, 3).map((c) => `.${c}`).join("");
    return text ? `${name} "${text}"` : name;
  };

  // Wait until fonts, images and maths are there.
  const settle = async () => {
    const images = all("img");
    images.forEach((image) => (image.loading = "eager"));
    await Promise.allSettled(images.map((image) => image.decode()));
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
    await document.fonts.ready;
  };

  const images = () => [
    ...all("img").filter((image) => !(image.complete && image.naturalWidth > 0)).map((image) => `image not drawn: ${image.getAttribute("src")}`),
    ...all("svg[data-icon]:has(.missing)").map((icon) => `icon not drawn: ${icon.dataset.icon}`),
  ];

  // A receptive field is read by its colours, so nothing may filter, fade or blend a figure.
  const colours = () =>
    all("main img").filter((image) => {
      for (let e = image; e; e = e.parentElement) {
        const style = getComputedStyle(e);
        if (style.filter !== "none" || style.opacity !== "1" || style.mixBlendMode !== "normal") return true;
      }
      return false;
    }).map((image) => `colours of an image altered: ${image.getAttribute("src")}`);

  const maths = () => [
    ...all(".math").filter((e) => !e.querySelector("mjx-container")).map((e) => `maths not rendered: ${describe(e)}`),
    ...all("mjx-merror, [data-mjx-error]").map((e) => `maths with an error: ${e.dataset.mjxError || describe(e)}`),
  ];

  // The page itself must not be wider than the window; what is wider scrolls in a box of its own.
  const overflow = () => {
    const root = document.documentElement;
    const found = [];
    if (root.scrollWidth > root.clientWidth) found.push(`the page is ${root.scrollWidth} px wide in a window of ${root.clientWidth}`);
    for (const element of all("main *")) {
      if (element.closest("mjx-container, svg") || !isSeen(element)) continue;
      const box = element.getBoundingClientRect();
      if (box.right <= root.clientWidth + 1 || found.length > 3) continue;
      let e = element.parentElement;
      while (e && !["auto", "scroll"].includes(getComputedStyle(e).overflowX)) e = e.parentElement;
      if (!e) found.push(`beyond the window's edge: ${describe(element)}`);
    }
    return found;
  };

  const headings = () => {
    const levels = all("h1, h2, h3, h4, h5, h6").filter((e) => e.checkVisibility());
    const found = [];
    const tops = levels.filter((e) => e.tagName === "H1").length;
    if (tops !== 1) found.push(`${tops} headings of the first level`);
    let above = 0;
    for (const e of levels) {
      const level = Number(e.tagName[1]);
      if (level > above + 1) found.push(`heading of level ${level} after level ${above}: ${describe(e)}`);
      above = level;
    }
    if (!document.documentElement.lang) found.push("the page states no language");
    if (!document.title.trim()) found.push("the page has no title");
    return found;
  };

  // What a screen reader calls a link, a button or a field, in the order in which it looks.
  const called = (e) => {
    const labels = (e.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id));
    const inside = all("img[alt], svg[aria-label], [aria-label]", e).map((i) => i.alt || i.getAttribute("aria-label"));
    const words = [...labels, ...(e.labels || []), e].map((other) => other?.textContent);
    return [e.getAttribute("aria-label"), ...words, ...inside, e.title, e.placeholder, e.type === "submit" && e.value].some((name) => name && name.trim());
  };
  const names = () =>
    all(OPERABLE).filter((e) => e.type !== "hidden" && isSeen(e) && !called(e)).map((e) => `without a name: ${e.outerHTML.slice(0, 120)}`);

  const keyboard = () =>
    all(OPERABLE).filter((e) => isSeen(e) && !e.disabled && e.tabIndex < 0).map((e) => `out of the keyboard's reach: ${describe(e)}`);

  const parse = (colour) => {
    const numbers = colour.match(/[\d.]+(e-?\d+)?/g).map(Number);
    const scale = colour.startsWith("rgb") ? 1 : colour.startsWith("color(srgb") ? 255 : NaN;
    const [r, g, b] = numbers.slice(0, 3).map((value) => value * scale);
    return [r, g, b, numbers[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };

  // What lies behind an element's text; null where that is a picture.
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.backgroundImage !== "none") return null;
      layers.push(parse(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };

  const contrast = () => {
    const found = new Map();
    const done = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || done.has(element)) continue;
      done.add(element);
      if (element.closest("script, style, noscript, template, :disabled, svg") || !isSeen(element)) continue;
      const style = getComputedStyle(element);
      const below = behind(element);
      if (!below) continue;
      const colour = parse(style.color);
      for (let e = element; e; e = e.parentElement) colour[3] *= Number(getComputedStyle(e).opacity);
      const size = parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const needed = isLarge ? CONTRAST.large : CONTRAST.normal;
      const value = ratio(over(colour, below), below);
      const key = `${style.color} on ${below}, ${needed}`;
      if (!(value >= needed) && !found.has(key)) found.set(key, `contrast ${value.toFixed(2)}, below ${needed}: ${describe(element)}`);
    }
    return [...found.values()];
  };

  // On paper: no navigation, and nothing cut at the edge or hidden in a box that would have to be scrolled.
  const printed = () => {
    const width = document.documentElement.clientWidth;
    const navigation = all("nav, header, [role=navigation], [role=search], dialog, .bd-sidebar-primary, .bd-sidebar-secondary, .prev-next-area");
    const boxes = all("main *").filter((e) => !e.closest("mjx-container, svg") && isSeen(e));
    // inline maths holds words for a screen reader that are wider than it, and are not drawn
    const isCut = (e) => !e.matches("span.math") && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible";
    return [
      ...navigation.filter(isSeen).map((e) => `printed although it is navigation: ${describe(e)}`),
      ...all("main button").filter(isSeen).map((e) => `printed although it is a button: ${describe(e)}`),
      ...boxes.filter((e) => e.getBoundingClientRect().right > width + 1 || isCut(e)).slice(0, 3).map((e) => `cut when printed: ${describe(e)}`),
      ...all("main img").filter((e) => isSeen(e) && getComputedStyle(e).printColorAdjust !== "exact").map((e) => `printed with other colours: ${e.getAttribute("src")}`),
    ];
  };

  const times = () => {
    const [entry] = performance.getEntriesByType("navigation");
    return [entry.domContentLoadedEventEnd, entry.loadEventEnd];
  };

  return { settle, images, colours, maths, overflow, headings, names, keyboard, contrast, printed, times };
})();
