// Replays: how they go, held, stopped and begun again.

import { h, fill } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, count, span, words } from './format.js';
import { panel, badge, table, button, doing, note, empty, facts, code, to, skeleton } from './parts.js';
import { progress, replayFacts } from './replay.js';

export const title = (parts) => parts[1] || 'Replays';
export const render = (place) => (place.parts[1] ? shown(place) : all(place));

const said = (filter) => Object.entries(filter).map(([name, value]) => `${words(name)} ${Array.isArray(value) ? (value.length > 2 ? `(${value.length})` : value.join(', ')) : value === true ? '' : value}`.trim()).join(' · ') || 'all that failed';
const state = (replay) => h('span', { class: 'badges' }, badge(replay.state, replay.state === 'completed' && replay.dead ? 'warn' : undefined), replay.hold && h('small', { class: 'dim' }, `by ${words(replay.hold)}`));
const moving = (replay) => replay.state === 'running' || replay.open > 0;

async function all({ root, signal }) {
  const list = table([
    { name: 'Replay', cls: 'c-main', cell: (item) => h('a', { href: to.replay(item.id), class: 'strong' }, said(item.filter)) },
    { name: 'State', cls: 'c-state', cell: state },
    { name: 'Progress', cls: 'c-wide', cell: (item) => progress(item) },
    { name: 'Made', cls: 'c-num', cell: (item) => count(item.queued) },
    { name: 'Delivered', cls: 'c-num', cell: (item) => count(item.delivered) },
    { name: 'Dead', cls: 'c-num', cell: (item) => (item.dead ? h('b', { class: 'is-bad' }, count(item.dead)) : '0') },
    { name: 'Begun', cls: 'c-time', cell: (item) => ago(item.created_at) },
  ], { key: (item) => item.id, label: 'Replays', open: (item) => to.replay(item.id) });
  const place = h('div', {}, skeleton());
  fill(root, h('h1', {}, 'Replays'), panel(null, null, place));
  async function load() {
    const { items } = await api.get('/replays', signal);
    if (items.length) { if (list.element.parentNode !== place) fill(place, list.element); list.show(items.slice(0, 500)); } else fill(place, empty('No replays yet', 'Select what is to be delivered again under ', h('a', { href: '#/failed' }, 'Failed'), ' or ', h('a', { href: '#/events' }, 'Events'), '.'));
  }
  live.refreshing(load, signal, 1000);
  await load();
}

async function shown({ root, parts, signal, may }) {
  const id = parts[1];
  const head = h('div', { class: 'head' });
  const bar = h('div', { class: 'broad-bar' });
  const numbers = h('div', {});
  const terms = h('div', {});
  const turn = (verb, done) => (event) => doing(event.currentTarget, async () => { await api.post(`/replays/${api.part(id)}/${verb}`); note(done); await load(); });
  const again = (what) => (event) => doing(event.currentTarget, async () => { const next = await api.post(`/replays/${api.part(id)}/rerun`, { what }, api.once()); note('Begun again.'); location.hash = to.replay(next.id); });
  async function load() {
    const one = await api.get(`/replays/${api.part(id)}`, signal);
    const operates = may('operate');
    const isOpen = one.state === 'running' || one.state === 'paused';
    fill(head, h('div', {}, h('h1', {}, 'Replay ', state(one)), h('p', { class: 'mono dim id' }, one.id)), h('div', { class: 'actions' },
      one.state === 'running' && button('Pause', turn('pause', 'Paused: nothing more is made.'), { disabled: !operates }),
      one.state === 'paused' && button('Resume', turn('resume', 'It goes on.'), { kind: 'primary', disabled: !operates }),
      isOpen && button('Cancel', turn('cancel', 'Cancelled.'), { kind: 'danger', disabled: !operates }),
      !isOpen && one.dead + one.withdrawn > 0 && button('Again what failed', again('failed'), { kind: 'primary', disabled: !operates }),
      one.state === 'cancelled' && button('Again the rest', again('rest'), { disabled: !operates }),
      h('a', { class: 'button quiet', href: `#/events?replay=${one.id}` }, h('span', {}, 'Its events'))));
    fill(bar, progress(one), h('p', { class: 'dim' }, one.state === 'completed' && !moving(one) ? (one.dead ? `Over: ${count(one.dead)} did not get there.` : 'Over: all it made got there.') : one.state === 'paused' ? `Held by ${words(one.hold)}.` : moving(one) ? `${count(one.open)} on their way.` : words(one.state)));
    root.dataset.state = moving(one) ? one.state : 'over';
    fill(numbers, replayFacts(one));
    fill(terms, facts([['Begun', ago(one.created_at)], one.by && ['By', one.by], ['To', one.to ?? 'where each went before'], ['First', one.order], ['Rate', one.rate ? `${count(one.rate[0])} in ${span(one.rate[1])}` : 'no limit'], one.canary && ['Canary', `${count(one.canary)}${one.canary_passed ? ', passed' : ''}`], one.stop_after_failures && ['Stops after', `${count(one.stop_after_failures)} failures`], one.skip_if_delivered_later && ['Leaves out', 'what got there since']]), h('h3', {}, 'What it is of'), code(JSON.stringify(one.filter)));
  }
  fill(root, head, panel(null, null, bar, numbers), panel('As it was asked for', null, terms));
  const refresh = live.refreshing(load, signal, 1000);
  await load();
  const timer = setInterval(() => { if (root.dataset.state !== 'over') refresh(); }, 2000);
  signal.addEventListener('abort', () => clearInterval(timer));
}
