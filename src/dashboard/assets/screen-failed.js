// Failed: what gave up, in groups that look alike, to be chosen and replayed.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { compact, count, ago, words, plural } from './format.js';
import { panel, badge, table, paged, search, select, SPANS, chips, button, empty, answer, to, waits, skeleton } from './parts.js';
import { begin } from './replay.js';
import { onReplay, current } from './keys.js';

export const title = () => 'Failed';
const NAMES = ['endpoint', 'type', 'key', 'status', 'reason', 'source', 'group', 'since', 'until', 'replay'];
const LISTS = ['type', 'status', 'key', 'id'];

// The list's parameters as a filter of a replay.
export function filterOf(params, names) {
  const filter = {};
  for (const name of names) {
    const value = params.get(name);
    if (value) filter[name] = LISTS.includes(name) ? (name === 'key' ? [value] : value.split(',')) : value;
  }
  return filter;
}

export async function render({ root, params, set, signal, may }) {
  const asked = () => Object.fromEntries(NAMES.filter((name) => params.get(name)).map((name) => [name, params.get(name)]));
  const endpoints = live.state ? Object.keys(live.state.endpoints) : (await api.get('/endpoints', signal)).items.map((one) => one.name);
  const chosen = h('div', { class: 'chosen', role: 'status' });
  const pick = { changed: () => bar() };
  const list = table([
    { name: 'Event', cls: 'c-main', cell: (item) => h('a', { href: to.event(item.event.id), class: 'strong' }, item.event.type) },
    { name: 'Endpoint', cls: 'c-mid', cell: (item) => h('a', { href: to.endpoint(item.endpoint) }, item.endpoint) },
    { name: 'Key', cls: 'c-mid', cell: (item) => (item.event.key ? h('a', { href: to.call(item.event.key), class: 'mono clip' }, item.event.key) : h('span', { class: 'dim' }, '–')) },
    { name: 'Status', cls: 'c-state', cell: (item) => badge(item.status, undefined, words(item.reason)) },
    { name: 'Why', cls: 'c-why', cell: (item) => h('span', { class: 'why' }, answer(item), h('small', { class: 'dim' }, item.waits_for ? waits(item) : words(item.reason))) },
    { name: 'Tries', cls: 'c-num', cell: (item) => count(item.attempts_made) },
    { name: 'Since', cls: 'c-time', cell: (item) => ago(item.changed_at) },
  ], { key: (item) => item.id, label: 'Failed deliveries', open: (item) => to.event(item.event.id), pick });

  const view = paged(list, (cursor) => api.get(`/deliveries${api.query({ ...asked(), limit: 50, ...(cursor ? { cursor } : {}) })}`, signal),
    () => (Object.keys(asked()).length ? empty('No failed delivery fits', button('Without filters', () => set(Object.fromEntries(NAMES.map((name) => [name, '']))))) : empty('Nothing has failed', 'Deliveries that give up are listed here, to be replayed once what was wrong is put right.')));

  function replay() {
    const picked = list.picked();
    const row = current()?.dataset.key;
    if (picked.length) begin({ id: picked, status: ['dead', 'retrying', 'cancelled', 'expired'] }, `Replay ${plural(picked.length, 'delivery', 'deliveries')}`, endpoints);
    else if (row) begin({ id: [row], status: ['dead', 'retrying', 'cancelled', 'expired'] }, 'Replay this delivery', endpoints);
    else all();
  }
  function all() {
    const filter = filterOf(params, NAMES);
    begin(Object.keys(filter).length ? filter : { status: ['failed'] }, 'Replay all that fit', endpoints);
  }
  function bar() {
    const picked = list.picked().length;
    fill(chosen, picked ? [h('b', {}, `${count(picked)} selected`), button(`Replay ${count(picked)}`, replay, { kind: 'primary', key: 'r', disabled: !may('operate') }), button('Clear', list.clear)] : [h('span', { class: 'dim' }, 'Select some, or'), button('Replay all that fit', all, { sign: 'replays', disabled: !may('operate') })]);
  }
  if (may('operate')) onReplay(replay, signal);
  bar();

  const groups = h('div', { class: 'cards' }, skeleton(2));
  async function gather() {
    const { items, deliveries, groups: number } = await api.get(`/failures${api.query({ ...Object.fromEntries(Object.entries(asked()).filter(([name]) => !['group', 'reason', 'status'].includes(name))), limit: 12 })}`, signal);
    const chosenGroup = params.get('group');
    fill(groups, items.length ? items.map((group) => h('button', { type: 'button', class: 'card', 'aria-pressed': String(group.id === chosenGroup), on: { click: () => set({ group: group.id === chosenGroup ? '' : group.id }) } },
      h('span', { class: 'line' }, h('b', { class: 'num' }, compact(group.count)), h('span', { class: 'name' }, group.endpoint), badge(group.status ?? group.class, group.dead ? 'bad' : 'warn')),
      h('span', { class: 'clip dim' }, group.sample.text || words(group.class)),
      h('span', { class: 'line dim' }, h('small', {}, group.dead === group.count ? 'all dead' : `${count(group.dead)} dead, ${count(group.count - group.dead)} retried`), h('small', {}, ago(group.last_at))))) : null);
    groups.hidden = !items.length;
    groups.setAttribute('aria-label', `${plural(deliveries, 'failing delivery', 'failing deliveries')} in ${plural(number, 'group')}`);
  }

  fill(root, h('h1', {}, 'Failed'),
    h('div', { class: 'filters' }, search(params, NAMES, set),
      select('Endpoint', params.get('endpoint'), [['', 'Any endpoint'], ...endpoints.map((name) => [name, name])], (endpoint) => set({ endpoint })),
      select('Status', params.get('status'), [['', 'Gave up'], ['dead,retrying', 'Gave up or retrying'], ['retrying', 'Retrying'], ['cancelled', 'Cancelled'], ['expired', 'Expired']], (status) => set({ status })),
      select('Time', params.get('since'), SPANS, (since) => set({ since }))),
    chips(params, NAMES, set), groups, panel(null, null, chosen, view.element));
  // What is wrong with a filter the list says; without groups it does as well.
  const load = () => Promise.all([gather().catch((error) => { if (error.name === 'AbortError') throw error; groups.hidden = true; }), view.refresh()]).then(bar);
  live.refreshing(load, signal, 2000);
  await load();
}
