// Events: looked for and listed, with how they are spread over time.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, bytes, words } from './format.js';
import { panel, badge, table, paged, search, select, SPANS, chips, button, empty, to, tone, skeleton } from './parts.js';
import { bars } from './charts.js';
import { begin } from './replay.js';
import { filterOf } from './screen-failed.js';
import { onReplay, current } from './keys.js';

export const title = () => 'Events';
const NAMES = ['type', 'key', 'source', 'endpoint', 'status', 'reason', 'since', 'until', 'replay', 'unrouted'];

export const states = (deliveries) => (deliveries?.length ? h('span', { class: 'badges' }, deliveries.filter((one) => !one.superseded).map((one) => h('span', { class: `dot tone-${tone(one.status)}`, title: `${one.endpoint}: ${words(one.status)} (${words(one.reason)})` }, h('i'), one.endpoint))) : badge('unrouted', 'plain'));

export async function render({ root, params, set, signal, may }) {
  const asked = () => Object.fromEntries([...NAMES, 'order'].filter((name) => params.get(name)).map((name) => [name, params.get(name)]));
  const [sources, endpoints] = await Promise.all([api.get('/sources', signal), api.get('/endpoints', signal)]);
  const names = endpoints.items.map((one) => one.name);
  const list = table([
    { name: 'Type', cls: 'c-main', cell: (item) => h('a', { href: to.event(item.id), class: 'strong' }, item.type) },
    { name: 'Key', cls: 'c-mid', cell: (item) => (item.key ? h('a', { href: to.call(item.key), class: 'mono clip' }, item.key) : h('span', { class: 'dim' }, '–')) },
    { name: 'Deliveries', cls: 'c-wide', cell: (item) => states(item.deliveries) },
    { name: 'Source', cls: 'c-mid', cell: (item) => item.source },
    { name: 'Size', cls: 'c-num', cell: (item) => bytes(item.body_bytes) },
    { name: 'Received', cls: 'c-time', cell: (item) => ago(item.received_at) },
  ], { key: (item) => item.id, label: 'Events', open: (item) => to.event(item.id) });
  const view = paged(list, (cursor) => api.get(`/events${api.query({ ...asked(), limit: 50, ...(cursor ? { cursor } : {}) })}`, signal),
    () => (Object.keys(asked()).length ? empty('No event fits', button('Without filters', () => set(Object.fromEntries([...NAMES, 'order'].map((name) => [name, '']))))) : empty('No events yet', 'Post one to ', h('code', {}, `/in/${sources.items[0]?.name ?? 'SOURCE'}`), ' and it is here. How to set a sender up is under ', h('a', { href: '#/sources' }, 'Sources'), '.')));
  const time = h('div', { class: 'histogram' }, skeleton(2));
  async function spread() {
    const { order, ...rest } = asked();
    const histogram = await api.get(`/events/histogram${api.query({ ...rest, bars: innerWidth < 700 ? 48 : 96 })}`, signal);
    fill(time, bars(histogram, (since, until) => set({ since, until })), histogram.counted_since ? h('p', { class: 'dim' }, 'There are too many to count them all: those since ', ago(histogram.counted_since), ' are.') : null);
  }
  if (may('operate')) {
    onReplay(() => {
      const row = current()?.dataset.key;
      const filter = row ? { id: [row] } : filterOf(params, NAMES);
      if (filter.unrouted) filter.unrouted = true;
      if (Object.keys(filter).length) begin({ status: filter.unrouted ? [] : ['delivered', 'dead', 'cancelled', 'expired'], ...filter }, row ? 'Replay this event' : 'Replay all that fit', names);
    }, signal);
  }
  fill(root, h('h1', {}, 'Events'),
    h('div', { class: 'filters' }, search(params, NAMES, set),
      select('Source', params.get('source'), [['', 'Any source'], ...sources.items.map((one) => [one.name, one.name]), ['backstop', 'backstop (alerts)']], (source) => set({ source })),
      select('Endpoint', params.get('endpoint'), [['', 'Any endpoint'], ...names.map((name) => [name, name])], (endpoint) => set({ endpoint })),
      select('Status', params.get('status'), [['', 'Any status'], ['delivered', 'Delivered'], ['scheduled,retrying', 'Waiting'], ['retrying', 'Retrying'], ['dead', 'Gave up'], ['cancelled', 'Cancelled']], (status) => set({ status })),
      select('Time', params.get('since'), SPANS, (since) => set({ since, until: '' }))),
    chips(params, NAMES, set), panel(null, null, time), panel(null, null, view.element));
  const load = () => Promise.all([spread().catch((error) => { if (error.name === 'AbortError') throw error; fill(time, empty('Nothing to count')); }), view.refresh()]);
  live.refreshing(load, signal, 2000);
  await load();
}
