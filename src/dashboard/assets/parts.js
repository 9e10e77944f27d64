// The parts that screens are made of: tables, badges, filters, dialogs, notes.

import { h, fill, patch, icon } from './dom.js';
import { words, text, pretty, waiting, count } from './format.js';
import * as api from './api.js';

export const to = {
  event: (id) => `#/event/${api.part(id)}`,
  call: (key) => `#/call/${api.part(key)}`,
  endpoint: (name) => `#/endpoints/${api.part(name)}`,
  replay: (id) => `#/replays/${api.part(id)}`,
  refusal: (id) => `#/sources/refusals/${api.part(id)}`,
};
export const eventOf = (delivery) => delivery.replace(/^dlv_/, 'evt_').replace(/_\d+$/, '');

const TONES = {
  delivered: 'ok', closed: 'ok', completed: 'ok', done: 'ok', ready: 'ok',
  dead: 'bad', open: 'bad', failed: 'bad', permanent: 'bad', lost: 'bad', denied: 'bad',
  retrying: 'warn', retryable: 'warn', half_open: 'warn', paused: 'warn', throttled: 'warn', maybe_delivered: 'warn', refused: 'warn', unknown: 'warn',
  running: 'accent', in_flight: 'accent', scheduled: 'plain', cancelled: 'plain', expired: 'plain',
};
export const tone = (word) => TONES[word] || 'plain';
export const badge = (word, kind = tone(word), title) => h('span', { class: `badge tone-${kind}`, title }, h('i'), words(word));

export function answer(delivery) {
  if (delivery.last_status) return h('span', { class: 'mono' }, delivery.last_status);
  if (delivery.last_failure) return h('span', {}, words(delivery.last_failure));
  return h('span', { class: 'dim' }, '–');
}

export function standing(endpoint) {
  const marks = [];
  if (!endpoint.configured && endpoint.configured !== undefined) marks.push(badge('not in the config', 'warn'));
  if (endpoint.pause || endpoint.paused) marks.push(badge('paused'));
  const circuit = endpoint.circuit?.state || endpoint.circuit;
  if (circuit && circuit !== 'closed') marks.push(badge(`circuit_${circuit}`, tone(circuit)));
  if (!marks.length) marks.push(badge('healthy', 'ok'));
  return h('span', { class: 'badges' }, marks);
}

export function button(label, react, props = {}) {
  const { kind = 'quiet', title, disabled, key, sign } = props;
  return h('button', { type: 'button', class: `button ${kind}`, title, disabled, 'aria-keyshortcuts': key, on: { click: react } }, sign && icon(sign), h('span', {}, label), key && h('kbd', {}, key));
}

export function copy(what, label = 'Copy') {
  const control = button(label, async () => {
    try {
      await navigator.clipboard.writeText(typeof what === 'function' ? await what() : what);
      note('Copied.');
    } catch {
      note('The browser does not allow to copy; mark the text instead.', 'bad');
    }
  }, { sign: 'copy' });
  return control;
}

export function note(message, kind = 'ok') {
  const toast = h('div', { class: `toast tone-${kind}` }, h('i'), h('span', {}, message));
  const place = document.getElementById('toasts');
  place.append(toast);
  while (place.children.length > 4) place.firstElementChild.remove();
  setTimeout(() => toast.remove(), kind === 'bad' ? 8000 : 4000);
}

// Does something, and says so if it cannot be done.
export async function doing(control, what) {
  if (control) control.disabled = true;
  try { return await what(); } catch (error) {
    if (error.name !== 'AbortError') note(error.message, 'bad');
    return undefined;
  } finally { if (control) control.disabled = false; }
}

export const empty = (title, ...more) => h('div', { class: 'empty' }, h('strong', {}, title), more.length ? h('p', {}, more) : null);
export const skeleton = (rows = 6) => h('div', { class: 'skeleton', 'aria-hidden': 'true' }, Array.from({ length: rows }, () => h('i')));
export const wrong = (error, again) => h('div', { class: 'empty tone-bad', role: 'alert' }, h('strong', {}, 'This cannot be shown now'), h('p', {}, error.message), again && button('Try again', again));

export const panel = (title, tools, ...children) => h('section', { class: 'panel' }, (title || tools) && h('header', {}, title && h('h2', {}, title), tools && h('div', { class: 'tools' }, tools)), ...children);
export const facts = (pairs) => h('dl', { class: 'facts' }, pairs.filter(Boolean).map(([name, value]) => [h('dt', {}, name), h('dd', {}, value ?? '–')]));

// A table whose rows keep their elements while what they show stays the same. `columns` are {name, cell, cls}.
export function table(columns, { key, label, open, pick }) {
  const body = h('tbody');
  const all = pick && h('input', { type: 'checkbox', 'aria-label': 'Select all that are shown', on: { change: () => {
    for (const box of body.querySelectorAll('input.pick')) box.checked = all.checked;
    pick.changed();
  } } });
  const head = h('thead', {}, h('tr', {}, pick && h('th', { class: 'c-pick' }, all), columns.map((column) => h('th', { class: column.cls, scope: 'col' }, column.name))));
  const element = h('table', { class: 'table', 'aria-label': label }, head, body);
  const row = (item) => h('tr', { class: open ? 'opens' : '', on: open ? { click: (event) => {
    if (event.target.closest('a,button,input,label') || String(getSelection())) return;
    location.hash = open(item);
  } } : {} },
  pick && h('td', { class: 'c-pick' }, h('label', { class: 'target' }, h('input', { type: 'checkbox', class: 'pick', 'aria-label': 'Select', on: { change: pick.changed } }))),
  columns.map((column) => h('td', { class: column.cls, 'data-label': column.name }, column.cell(item))));
  return {
    element,
    show: (items) => patch(body, items, key, row),
    picked: () => [...body.querySelectorAll('tr')].filter((line) => line.querySelector('input.pick')?.checked).map((line) => line.dataset.key),
    clear: () => { for (const box of element.querySelectorAll('input[type=checkbox]')) box.checked = false; pick?.changed(); },
    rows: () => body.querySelectorAll('tr'),
  };
}

// A list that is fetched page by page: `load(cursor)` gives {items, next}.
export function paged(view, load, hollow) {
  const more = h('div', { class: 'more' });
  const place = h('div', {}, skeleton());
  let items = [];
  let pages = 1;
  function show(next) {
    if (!items.length && !next) { fill(place, hollow()); fill(more); view.show([]); return; }
    if (view.element.parentNode !== place) fill(place, view.element);
    view.show(items);
    fill(more, next && button('Show more', (event) => doing(event.currentTarget, async () => {
      const page = await load(next);
      pages += 1;
      items = items.concat(page.items);
      show(page.next);
    })), h('span', { class: 'dim' }, `${count(items.length)}${next ? ' shown, there are more' : ' in all'}`));
  }
  return {
    element: h('div', { class: 'paged' }, place, more),
    items: () => items,
    async refresh() {
      try {
        let page = await load(undefined);
        let found = page.items;
        for (let at = 1; at < pages && page.next; at += 1) {
          page = await load(page.next);
          found = found.concat(page.items);
        }
        items = found;
        show(page.next);
      } catch (error) {
        if (error.name === 'AbortError') throw error;
        if (!items.length) fill(place, wrong(error, () => this.refresh()));
      }
    },
  };
}

// What is looked for, in one line: words like `type:call_*`, or an id or a key by itself.
export function search(params, known, apply) {
  const say = () => known.filter((name) => params.get(name)).map((name) => `${name}:${/\s/.test(params.get(name)) ? `"${params.get(name)}"` : params.get(name)}`).join(' ');
  const box = h('input', { class: 'query', type: 'search', 'aria-label': 'Search', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', placeholder: `an id, a key, or ${known.slice(0, 3).map((name) => `${name}:…`).join(' ')}` });
  box.value = say();
  return h('form', { class: 'search', role: 'search', on: { submit: (event) => {
    event.preventDefault();
    const found = {};
    for (const [, name, , quotedText, plain, bare] of box.value.matchAll(/(?:([a-z_]+):("([^"]*)"|(\S+)))|(\S+)/g)) {
      const value = quotedText ?? plain;
      if (name && known.includes(name)) found[name] = value;
      else {
        const word = bare ?? `${name}:${value}`;
        if (/^evt_[0-9a-z]+$/.test(word)) { location.hash = to.event(word); return; }
        if (/^dlv_[0-9a-z]+_\d+$/.test(word)) { location.hash = to.event(eventOf(word)); return; }
        if (/^rpl_[0-9a-z]+$/.test(word)) { location.hash = to.replay(word); return; }
        found.key = word;
      }
    }
    apply(Object.fromEntries(known.map((name) => [name, found[name] || ''])));
  } } }, icon('search'), box, h('kbd', {}, '/'));
}

export function select(label, value, options, change) {
  const control = h('select', { 'aria-label': label, on: { change: () => change(control.value) } }, options.map(([key, name]) => h('option', { value: key, selected: key === value }, name)));
  if (value && !options.some(([key]) => key === value)) control.append(h('option', { value, selected: true }, value));
  return h('label', { class: `select${value ? ' on' : ''}` }, control);
}

export const SPANS = [['', 'Any time'], ['15m', 'Last 15 minutes'], ['1h', 'Last hour'], ['6h', 'Last 6 hours'], ['24h', 'Last day'], ['7d', 'Last week'], ['30d', 'Last month']];

// What the filters of a list are now, each to be taken away.
export function chips(params, names, change) {
  return h('div', { class: 'chips' }, names.filter((name) => params.get(name)).map((name) => h('button', { class: 'chip', type: 'button', title: `Without ${name}`, on: { click: () => change({ [name]: '' }) } }, h('span', { class: 'dim' }, words(name)), params.get(name), icon('close'))));
}

export function dialog(title, content, actions) {
  const box = h('dialog', { class: 'dialog', 'aria-label': title });
  const close = () => { box.close(); };
  box.addEventListener('close', () => box.remove());
  box.addEventListener('click', (event) => { if (event.target === box) close(); });
  const foot = h('footer', {});
  fill(box, h('div', { class: 'sheet' }, h('header', {}, h('h2', {}, title), h('button', { class: 'plain', type: 'button', 'aria-label': 'Close', on: { click: close } }, icon('close'))), h('div', { class: 'content' }, content), foot));
  if (actions) fill(foot, actions(close)); else foot.remove();
  document.body.append(box);
  box.showModal();
  return { close, box, foot };
}

export const field = (label, control, hint) => h('label', { class: 'field' }, h('span', {}, label), control, hint && h('small', { class: 'dim' }, hint));

// JSON, coloured; anything else as it is.
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
const COLOURED_MAX = 200000;
export function code(body, isRaw = false) {
  const shown = isRaw ? null : pretty(body);
  const whole = shown ?? body;
  const element = h('pre', { class: 'code', tabindex: 0 });
  if (shown === null || whole.length > COLOURED_MAX) return fill(element, whole || h('span', { class: 'dim' }, 'empty'));
  let last = 0;
  const parts = [];
  for (const found of whole.matchAll(TOKEN)) {
    const [all, string, colon, word, digits] = found;
    parts.push(whole.slice(last, found.index));
    if (string) parts.push(h('span', { class: colon ? 'name' : 'text' }, string), colon || '');
    else parts.push(h('span', { class: word ? 'word' : 'digits' }, word || digits));
    last = found.index + all.length;
  }
  parts.push(whole.slice(last));
  return fill(element, parts);
}

export const headers = (list) => (list?.length ? h('dl', { class: 'headers' }, list.map(([name, value]) => [h('dt', {}, name), h('dd', {}, text(value))])) : h('p', { class: 'dim' }, 'none'));

export function tabs(names, first, show) {
  const place = h('div', { class: 'tab-body' });
  const bar = h('div', { class: 'tabs', role: 'tablist' });
  const choose = (name) => {
    for (const tab of bar.children) {
      const is = tab.dataset.name === name;
      tab.setAttribute('aria-selected', String(is));
      tab.tabIndex = is ? 0 : -1;
    }
    fill(place, show(name));
  };
  bar.append(...names.map(([name, label]) => h('button', { type: 'button', role: 'tab', data: { name }, on: { click: () => choose(name), keydown: (event) => {
    const next = { ArrowRight: 'nextElementSibling', ArrowLeft: 'previousElementSibling' }[event.key];
    const other = next && event.currentTarget[next];
    if (other) { other.focus(); other.click(); }
  } } }, label)));
  choose(first);
  return h('div', { class: 'tabbed' }, bar, place);
}

export const waits = (delivery) => (delivery.waits_for ? h('span', { class: 'waits' }, waiting(delivery.waits_for)) : null);
