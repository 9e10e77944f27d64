// Overview: is anything late, is anything failing, what moves.

import { h, fill, patch } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { count, compact, ago, bytes, now, words } from './format.js';
import { panel, badge, standing, empty, skeleton, to } from './parts.js';
import { plot, spark, meter } from './charts.js';

export const title = () => 'Overview';

const sum = (values, last) => values.slice(-last).reduce((all, one) => all + one, 0);

export async function render({ root, signal }) {
  const tile = (name, href) => {
    const value = h('strong', {}, '–');
    const more = h('small', { class: 'dim' }, '\u00a0');
    return { element: h(href ? 'a' : 'div', { class: 'tile', href }, h('span', {}, name), value, more), value, more };
  };
  const oldest = tile('Oldest waiting', '#/events?status=scheduled,retrying&order=oldest');
  const waiting = tile('Waiting', '#/endpoints');
  const failed = tile('Failed', '#/failed');
  const accepted = tile('Accepted per minute', '#/events');
  const delivered = tile('Delivered per minute');
  const refused = tile('Refused', '#/sources');
  const tiles = h('div', { class: 'tiles' }, [oldest, waiting, failed, accepted, delivered, refused].map((one) => one.element));
  const charts = h('div', { class: 'charts' }, h('div', { class: 'panel' }, skeleton(4)), h('div', { class: 'panel' }, skeleton(4)));
  const lanes = h('div', { class: 'lanes' });
  const groups = h('div', {}, skeleton(3));
  const disk = h('div', {}, skeleton(2));
  fill(root, h('h1', {}, 'Overview'), tiles, charts, panel('Endpoints', h('a', { href: '#/endpoints' }, 'All'), lanes), h('div', { class: 'two' }, panel('What fails', h('a', { href: '#/failed' }, 'All'), groups), panel('Disk', null, disk)));

  let history = { minutes: [], total: { accepted: [], delivered: [], failed: [], backlog: [] }, endpoints: {} };
  const put = (one, value, more, kind) => {
    if (value instanceof Node) fill(one.value, value); else if (one.value.textContent !== String(value)) one.value.textContent = value;
    one.more.textContent = more || '\u00a0';
    one.element.dataset.tone = kind || '';
  };

  function say(beat) {
    // What has just come is counted before its age is.
    const late = beat.oldest_waiting_at ? ago(beat.oldest_waiting_at, 'age') : beat.backlog ? 'now' : 'none';
    const age = beat.oldest_waiting_at ? now() - Date.parse(beat.oldest_waiting_at) : 0;
    put(oldest, late, beat.oldest_waiting_at || beat.backlog ? 'since it was received' : 'nothing waits', age > 3600000 ? 'bad' : age > 300000 ? 'warn' : '');
    put(waiting, compact(beat.backlog), `${count(beat.retrying)} retrying, ${count(beat.in_flight)} on the way`, '');
    put(failed, compact(beat.failed), beat.failed ? 'gave up, not replayed' : 'nothing to replay', beat.failed ? 'bad' : '');
    put(refused, compact(beat.turned_away), 'since the start, duplicates too');
    const rate = (values) => (values.length > 1 ? values.at(-2) : values.at(-1) ?? 0);
    put(accepted, compact(rate(history.total.accepted)), `${compact(sum(history.total.accepted, 60))} in the last hour`);
    put(delivered, compact(rate(history.total.delivered)), `${compact(sum(history.total.delivered, 60))} in the last hour`);
    const items = Object.entries(beat.endpoints).map(([name, of]) => ({ name, ...of, was: history.endpoints[name] }));
    const rank = (of) => (of.paused ? 2 : 0) + (of.circuit === 'open' ? 3 : of.circuit === 'half_open' ? 1 : 0) + (of.backlog ? 0.5 : 0);
    items.sort((one, other) => rank(other) - rank(one) || one.name.localeCompare(other.name));
    if (!items.length) { fill(lanes, empty('No endpoints', 'The config names none: add [endpoints.NAME] to gateway.toml.')); return; }
    if (lanes.querySelector('.empty')) fill(lanes);
    patch(lanes, items, (item) => item.name, lane);
  }

  const lane = (item) => h('a', { class: 'lane', href: to.endpoint(item.name) },
    h('span', { class: 'name' }, item.name), standing(item),
    h('span', { class: 'cell' }, h('small', {}, 'window'), h('b', {}, item.window === null ? '–' : `${item.in_flight}/${item.window}`)),
    h('span', { class: 'cell' }, h('small', {}, 'waiting'), h('b', {}, compact(item.backlog))),
    h('span', { class: 'cell wide' }, h('small', {}, 'backlog'), spark(item.was?.backlog?.slice(-60) ?? [], item.backlog ? 'warn' : 'plain', `backlog of ${item.name}`)),
    h('span', { class: 'cell wide' }, h('small', {}, 'delivered'), spark(item.was?.delivered?.slice(-60) ?? [], 'ok', `delivered to ${item.name}`)),
    h('span', { class: 'cell' }, h('small', {}, 'failed'), h('b', { class: item.failed ? 'is-bad' : '' }, compact(item.failed))),
    h('span', { class: 'cell' }, h('small', {}, 'oldest'), item.oldest_waiting_at ? ago(item.oldest_waiting_at, 'age') : h('span', { class: 'dim' }, '–')));

  async function load() {
    const [past, found, room] = await Promise.all([api.get('/history', signal), api.get('/failures?limit=5', signal), api.get('/disk', signal)]);
    history = past;
    if (!charts.contains(document.activeElement) && !charts.matches(':hover')) {
      fill(charts,
        h('div', { class: 'panel' }, plot(past.minutes, [{ name: 'Accepted', tone: 'accent', values: past.total.accepted }], 'Accepted per minute')),
        h('div', { class: 'panel' }, plot(past.minutes, [{ name: 'Delivered', tone: 'ok', values: past.total.delivered }, { name: 'Failed attempts', tone: 'bad', values: past.total.failed }], 'Delivered per minute')));
    }
    fill(groups, found.items.length ? h('ul', { class: 'groups' }, found.items.map((group) => h('li', {}, h('a', { href: `#/failed?group=${group.id}` }, h('b', { class: 'num' }, compact(group.count)), h('span', {}, h('span', { class: 'name' }, group.endpoint), ' ', badge(group.status ?? group.class, group.dead ? 'bad' : 'warn'), h('small', { class: 'dim clip' }, group.sample.text || words(group.class))), ago(group.last_at))))) : empty('Nothing fails', 'Every delivery got there, or is on its way for the first time.'));
    const tight = room.full ? 'bad' : room.free_bytes < 2 * room.free_min_bytes ? 'warn' : 'accent';
    fill(disk, h('p', { class: 'lead' }, h('b', {}, bytes(room.journal_bytes)), ' of journal, ', h('b', {}, bytes(room.free_bytes)), ' free'), meter(room.total_bytes - room.free_bytes, room.total_bytes, tight, 'Used of the file system'), h('p', { class: 'dim' }, room.full ? 'Full: new events are refused until there is room.' : `New events are refused below ${bytes(room.free_min_bytes)} free; the file system has ${bytes(room.total_bytes)}.`));
    if (live.state) say(live.state);
  }

  live.onBeat(say, signal);
  if (live.state) say(live.state); else fill(lanes, skeleton(4));
  const refresh = live.refreshing(load, signal, 5000);
  const timer = setInterval(refresh, 15000);
  signal.addEventListener('abort', () => clearInterval(timer));
  await load();
  if (!live.state) say(await first(signal));
}

// Where the stream is not there, how things stand is put together of the lists.
async function first(signal) {
  const [counters, endpoints] = await Promise.all([api.get('/counters', signal), api.get('/endpoints', signal)]);
  const all = Object.fromEntries(endpoints.items.map((one) => [one.name, { ...one.deliveries, backlog: one.backlog, in_flight: one.lane?.in_flight ?? 0, window: one.lane?.window ?? null, circuit: one.circuit.state, paused: Boolean(one.pause), oldest_waiting_at: null }]));
  const of = (part) => Object.values(all).reduce((sumOf, one) => sumOf + one[part], 0);
  return { accepted: counters.accepted, turned_away: Object.values(counters.turned_away).reduce((a, b) => a + b, 0), failed: of('failed'), backlog: of('backlog'), retrying: of('retrying'), in_flight: counters.in_flight, oldest_waiting_at: null, endpoints: all };
}
