// Elements, made of text and nothing else: there is no way from data to markup in here, which is what keeps hostile
// payloads inert. Links lead into this page or to this server only.

const SVG = 'http://www.w3.org/2000/svg';
const OWN = /^(#\/|\/api\/v1\/)/;

function put(element, props) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') {
      for (const [event, react] of Object.entries(value)) element.addEventListener(event, react);
    } else if (name === 'data') {
      Object.assign(element.dataset, value);
    } else if (name === 'vars') {
      for (const [key, part] of Object.entries(value)) element.style.setProperty(key, String(part));
    } else if (name === 'value' || name === 'checked' || name === 'disabled' || name === 'selected') {
      element[name] = value;
    } else if (name === 'href') {
      if (OWN.test(value)) element.setAttribute('href', value);
    } else if (!/^(on|style$|src)/i.test(name)) {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
}

export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(plain(String(child)))));
}

// What would turn the direction of the text around it is shown instead of obeyed: a payload could look like another.
const plain = (text) => text.replace(/[\u202a-\u202e\u2066-\u2069]/g, (sign) => `⟨U+${sign.charCodeAt(0).toString(16).toUpperCase()}⟩`);

export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  put(element, props);
  element.append(...nodes(children));
  return element;
}

export function s(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  put(element, props);
  element.append(...nodes(children));
  return element;
}

// Shows `items` in `container`: what has not changed keeps its element, and so its focus and its scroll.
export function patch(container, items, key, render) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]));
  const focused = document.activeElement?.closest?.('[data-key]')?.dataset.key;
  let place = container.firstElementChild;
  for (const item of items) {
    const id = String(key(item));
    const sign = JSON.stringify(item);
    let element = old.get(id);
    old.delete(id);
    if (!element || element.sign !== sign) {
      const fresh = render(item);
      fresh.dataset.key = id;
      fresh.sign = sign;
      const checked = element?.querySelector?.('input[type=checkbox]')?.checked;
      if (checked && fresh.querySelector('input[type=checkbox]')) fresh.querySelector('input[type=checkbox]').checked = true;
      if (element) {
        if (place === element) place = fresh;
        element.replaceWith(fresh);
        if (focused === id) (fresh.querySelector('a,button') || fresh).focus?.({ preventScroll: true });
      }
      element = fresh;
    }
    if (element === place) place = place.nextElementSibling;
    else container.insertBefore(element, place);
  }
  for (const gone of old.values()) gone.remove();
}

const ICONS = {
  overview: 'M3 12h4l3 8 4-16 3 8h4',
  failed: 'M12 8v5m0 3h.01M10.3 4 2.6 17.5A2 2 0 0 0 4.3 20.500h15.400a2 2 0 0 0 1.7-3L13.7 4a2 2 0 0 0-3.4 0z',
  events: 'M4 6h16M4 12h16M4 18h10',
  calls: 'M6 4v16M6 7h8a3 3 0 0 1 0 6H6m0 4h6',
  endpoints: 'M5 5h14v5H5zM5 14h14v5H5zM8 7.500h.01M8 16.500h.01',
  replays: 'M4 12a8 8 0 1 0 2.5-5.800M4 4v4h4',
  sources: 'M12 4v10m0 0 4-4m-4 4-4-4M5 19h14',
  audit: 'M8 4h8v3H8zM6 6H5v15h14V6h-1M9 12h6M9 16h4',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zm5 12 4 4',
  copy: 'M9 9h10v10H9zM5 15V5h10',
  check: 'M5 12.500l4.5 4.500L19 7.5',
  close: 'M6 6l12 12M18 6 6 18',
  menu: 'M4 7h16M4 12h16M4 17h16',
  theme: 'M12 3a9 9 0 1 0 0 18V3z',
  out: 'M10 5H5v14h5M14 8l4 4-4 4M9 12h9',
  help: 'M9.2 9a3 3 0 1 1 4.3 2.700c-1 .5-1.5 1.2-1.5 2.300m0 3h.01',
  more: 'M9 6l6 6-6 6',
};

export function icon(name) {
  return s('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, s('path', { d: ICONS[name] }));
}
