// The audit log: who had the gateway do what, and what it came to.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, count, words } from './format.js';
import { panel, badge, table, paged, search, select, SPANS, chips, empty, to } from './parts.js';

export const title = () => 'Audit log';
const NAMES = ['who', 'what', 'object', 'result', 'since', 'until'];

function object(of) {
  if (!of) return h('span', { class: 'dim' }, '–');
  if (of.startsWith('evt_')) return h('a', { href: to.event(of), class: 'mono clip' }, of);
  if (of.startsWith('dlv_')) return h('a', { href: to.event(of.replace(/^dlv_/, 'evt_').replace(/_\d+$/, '')), class: 'mono clip' }, of);
  if (of.startsWith('rpl_')) return h('a', { href: to.replay(of), class: 'mono clip' }, of);
  if (of.startsWith('ref_')) return h('a', { href: to.refusal(of), class: 'mono clip' }, of);
  return h('span', { class: 'clip' }, of);
}

export async function render({ root, params, set, signal }) {
  const asked = () => Object.fromEntries(NAMES.filter((name) => params.get(name)).map((name) => [name, params.get(name)]));
  const list = table([
    { name: 'What', cls: 'c-main', cell: (item) => h('span', { class: 'strong' }, words(item.what)) },
    { name: 'Who', cls: 'c-mid', cell: (item) => h('span', {}, item.who ?? 'nobody known', item.role && h('small', { class: 'dim' }, ` ${item.role}`)) },
    { name: 'On', cls: 'c-mid', cell: (item) => object(item.object) },
    { name: 'How', cls: 'c-wide', cell: (item) => { const how = JSON.stringify(item.parameters); return h('span', { class: 'mono clip dim', title: how }, how === 'null' || how === '{}' ? '' : how); } },
    { name: 'Result', cls: 'c-state', cell: (item) => badge(item.result, undefined, item.detail ?? '') },
    { name: 'From', cls: 'c-mid', cell: (item) => h('span', { class: 'mono dim' }, item.from ?? 'this machine') },
    { name: 'When', cls: 'c-time', cell: (item) => h('span', {}, ago(item.at), item.repeats ? h('small', { class: 'dim' }, ` +${count(item.repeats)} alike`) : null) },
  ], { key: (item) => item.id, label: 'Operations' });
  const view = paged(list, (cursor) => api.get(`/operations${api.query({ ...asked(), limit: 50, ...(cursor ? { cursor } : {}) })}`, signal), () => empty(Object.keys(asked()).length ? 'Nothing fits' : 'Nothing was done yet', 'Every change through the admin API is noted here before it is done.'));
  fill(root, h('h1', {}, 'Audit log'), h('div', { class: 'filters' }, search(params, NAMES, set), select('Result', params.get('result'), [['', 'Any result'], ['done', 'Done'], ['denied', 'Denied'], ['refused', 'Refused'], ['failed', 'Failed'], ['unknown', 'Unknown']], (result) => set({ result })), select('Time', params.get('since'), SPANS, (since) => set({ since }))), chips(params, NAMES, set), panel(null, null, view.element));
  live.refreshing(view.refresh.bind(view), signal, 3000);
  await view.refresh();
}
