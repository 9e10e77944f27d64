// Calls: those that are incomplete, and one of them as a timeline of its events.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, count, plural, words, span, full, clock } from './format.js';
import { panel, badge, table, paged, select, button, empty, to, tone, facts, waits } from './parts.js';
import { begin } from './replay.js';
import { onReplay } from './keys.js';

export const title = (parts) => (parts[0] === 'call' && parts[1] ? `Call ${parts[1]}` : 'Calls');

export const render = (place) => (place.parts[0] === 'call' && place.parts[1] ? call(place) : calls(place));

async function calls({ root, params, set, signal }) {
  const list = table([
    { name: 'Key', cls: 'c-main', cell: (item) => h('a', { href: to.call(item.key), class: 'strong mono clip' }, item.key) },
    { name: 'What is missing', cls: 'c-state', cell: (item) => badge(item.kind, item.kind === 'undelivered' ? 'bad' : 'warn') },
    { name: 'Where', cls: 'c-mid', cell: (item) => (item.endpoints.length ? item.endpoints.join(', ') : h('span', { class: 'dim' }, '–')) },
    { name: 'Last event', cls: 'c-mid', cell: (item) => h('a', { href: to.event(item.event) }, item.type) },
    { name: 'Source', cls: 'c-mid', cell: (item) => item.source },
    { name: 'Since', cls: 'c-time', cell: (item) => ago(item.since) },
  ], { key: (item) => `${item.kind} ${item.source} ${item.key}`, label: 'Incomplete calls', open: (item) => to.call(item.key) });
  const view = paged(list, (cursor) => api.get(`/gaps${api.query({ ...(params.get('kind') ? { kind: params.get('kind') } : {}), limit: 50, ...(cursor ? { cursor } : {}) })}`, signal),
    () => empty('Nothing is missing', 'Calls that never ended, that ended without a beginning, or that have not arrived everywhere are listed here. Calls are watched where a source has a ', h('code', {}, 'lifecycle'), '.'));
  const key = h('input', { class: 'query', type: 'search', 'aria-label': 'Key of a call', placeholder: 'the key of a call', autocomplete: 'off', spellcheck: 'false' });
  fill(root, h('h1', {}, 'Calls'), h('div', { class: 'filters' },
    h('form', { class: 'search', role: 'search', on: { submit: (event) => { event.preventDefault(); if (key.value.trim()) location.hash = to.call(key.value.trim()); } } }, key, h('kbd', {}, '/')),
    select('Kind', params.get('kind'), [['', 'Any gap'], ['never_ended', 'Never ended'], ['ended_without_start', 'Ended without a start'], ['undelivered', 'Undelivered']], (kind) => set({ kind }))), panel('Incomplete', null, view.element));
  live.refreshing(view.refresh.bind(view), signal, 3000);
  await view.refresh();
}

async function call({ root, parts, signal, may }) {
  const key = parts[1];
  const head = h('div', { class: 'head' });
  const about = h('div', { class: 'ends-at' });
  const story = h('ol', { class: 'story' });
  const more = h('div', { class: 'more' });
  let pages = 1;
  const replay = () => begin({ key: [key], status: ['dead', 'retrying', 'cancelled', 'expired'] }, 'Replay what of this call has not arrived');
  if (may('operate')) onReplay(replay, signal);

  async function load() {
    let line = await api.get(`/keys/${api.part(key)}?limit=100`, signal);
    const items = [...line.items];
    for (let at = 1; at < pages && line.next; at += 1) {
      line = await api.get(`/keys/${api.part(key)}${api.query({ limit: 100, cursor: line.next })}`, signal);
      items.push(...line.items);
    }
    fill(head, h('div', {}, h('h1', { class: 'mono' }, line.key), h('p', {}, line.complete ? badge('complete', 'ok') : badge('incomplete', 'warn'), h('span', { class: 'dim' }, ` ${plural(line.events, 'event')}, ${span(Date.parse(line.last_at) - Date.parse(line.first_at))} long`))),
      h('div', { class: 'actions' }, button('Replay what is missing', replay, { key: 'r', disabled: !may('operate') || line.undelivered === 0 }), h('a', { class: 'button quiet', href: `#/events?key=${api.part(key)}` }, h('span', {}, 'As a list'))));
    fill(about, facts([['Began', ago(line.first_at)], ['Last', ago(line.last_at)], ['Not arrived', count(line.undelivered)]]),
      h('ul', { class: 'arrivals' }, Object.entries(line.endpoints).map(([name, states]) => h('li', {}, h('a', { href: to.endpoint(name), class: 'name' }, name), Object.entries(states).map(([status, number]) => badge(`${count(number)} ${status}`, tone(status)))))));
    const gap = (missing) => h('li', { class: 'missing tone-warn' }, h('span', { class: 'when' }, 'missing'), h('div', {}, h('b', {}, missing.type), h('span', { class: 'dim' }, ` the ${missing.part} that ${missing.source} should have sent`)));
    const begun = Date.parse(line.first_at);
    let last = begun;
    const rows = items.map((event) => {
      const at = event.occurred_at ?? event.received_at;
      const apart = Date.parse(at) - last;
      last = Date.parse(at);
      const shown = (event.deliveries ?? []).filter((of) => !of.superseded);
      const worst = shown.some((of) => of.status === 'dead') ? 'bad' : shown.some((of) => of.waits_for) ? 'warn' : shown.length ? 'ok' : 'plain';
      return h('li', { class: `tone-${worst}` }, h('time', { class: 'when', datetime: at, title: full(at) }, clock(at), h('small', { class: 'dim' }, `+${span(last - begun)}`)),
        h('div', {}, h('a', { href: to.event(event.id), class: 'strong' }, event.type), apart > 60000 ? h('small', { class: 'dim gap' }, `${span(apart)} after the one before`) : null,
          h('span', { class: 'badges' }, shown.map((of) => h('span', { class: `dot tone-${tone(of.status)}`, title: `${words(of.status)} (${words(of.reason)})` }, h('i'), of.endpoint))), shown.filter((of) => of.waits_for).map((of) => h('small', { class: 'dim' }, `${of.endpoint}: `, waits(of)))));
    });
    const focused = [...story.children].findIndex((row) => row.contains(document.activeElement));
    fill(story, line.missing.filter((of) => of.part === 'start').map(gap), rows, line.next ? null : line.missing.filter((of) => of.part !== 'start').map(gap));
    if (focused >= 0) story.children[focused]?.querySelector('a')?.focus({ preventScroll: true });
    fill(more, line.next && button('Show more', () => { pages += 1; load(); }));
  }
  fill(root, head, about, panel('Timeline', null, story, more));
  live.refreshing(load, signal, 2000);
  await load();
}
