// Endpoints: how each stands; paused, resumed, tried, and its secret rotated.

import { h, fill, patch } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { ago, compact, count, span, words, plural } from './format.js';
import { panel, badge, standing, facts, button, copy, code, dialog, field, doing, note, empty, skeleton, to } from './parts.js';
import { plot, spark } from './charts.js';

export const title = (parts) => parts[1] || 'Endpoints';
export const render = (place) => (place.parts[1] ? shown(place) : all(place));

async function all({ root, signal }) {
  const lanes = h('div', { class: 'lanes' });
  fill(root, h('h1', {}, 'Endpoints'), panel(null, null, h('div', {}, lanes)));
  fill(lanes, skeleton(4));
  async function load() {
    const [{ items }, history] = await Promise.all([api.get('/endpoints', signal), api.get('/history', signal)]);
    if (!items.length) { fill(lanes, empty('No endpoints', 'Add [endpoints.NAME] with a url to gateway.toml.')); return; }
    if (lanes.querySelector('.skeleton,.empty')) fill(lanes);
    patch(lanes, items.map((one) => ({ ...one, was: history.endpoints[one.name] })), (item) => item.name, (item) => h('a', { class: 'lane', href: to.endpoint(item.name) },
      h('span', { class: 'name' }, item.name, h('small', { class: 'dim clip' }, item.url ?? 'not in the config')), standing(item),
      h('span', { class: 'cell' }, h('small', {}, 'window'), h('b', {}, item.lane ? `${item.lane.in_flight}/${item.lane.window}` : '–')),
      h('span', { class: 'cell' }, h('small', {}, 'waiting'), h('b', {}, compact(item.backlog))),
      h('span', { class: 'cell wide' }, h('small', {}, 'backlog'), spark(item.was?.backlog.slice(-60) ?? [], item.backlog ? 'warn' : 'plain', `backlog of ${item.name}`)),
      h('span', { class: 'cell wide' }, h('small', {}, 'delivered'), spark(item.was?.delivered.slice(-60) ?? [], 'ok', `delivered to ${item.name}`)),
      h('span', { class: 'cell' }, h('small', {}, 'failed'), h('b', { class: item.deliveries.failed ? 'is-bad' : '' }, compact(item.deliveries.failed))),
      h('span', { class: 'cell' }, h('small', {}, 'delivered'), h('b', {}, compact(item.deliveries.delivered)))));
  }
  live.refreshing(load, signal, 2000);
  await load();
}

function rotation(one) {
  const fresh = new Uint8Array(32);
  crypto.getRandomValues(fresh);
  const secret = `whsec_${btoa(String.fromCharCode(...fresh))}`;
  const upper = one.name.toUpperCase().replace(/[^A-Z0-9]/g, '_');
  const config = `[endpoints.${one.name}]\n# The first signs; the others are signed with, too, until they are taken out.\nsecrets = ["\${${upper}_SECRET_NEW}", "\${${upper}_SECRET_OLD}"]`;
  dialog(`Rotate the secret of ${one.name}`, [
    h('ol', { class: 'steps' },
      h('li', {}, 'A new secret. It was made in this browser, and is shown this once:', code(secret, true), copy(secret, 'Copy the secret')),
      h('li', {}, 'Put it first in gateway.toml, and leave the old one behind it:', code(config, true), copy(config, 'Copy the setting')),
      h('li', {}, 'Run ', h('code', {}, 'backstop check'), ' and restart the gateway. Deliveries are signed with both from then on.'),
      h('li', {}, 'Give the new one to the receiver. When it verifies with that, take the old one out, and restart again.')),
  ], (close) => [button('Close', close)]);
}

function pause(one, after) {
  const why = h('input', { maxlength: 512, placeholder: 'as in: the CRM is being moved', autocomplete: 'off' });
  const yes = button('Pause', (event) => doing(event.currentTarget, async () => {
    await api.post(`/endpoints/${api.part(one.name)}/pause`, { note: why.value });
    box.close();
    note(`${one.name} is paused.`);
    await after();
  }), { kind: 'primary' });
  const box = dialog(`Pause ${one.name}`, [h('p', {}, 'Nothing more is sent to it until it is resumed. Deliveries wait and spend no attempt; what is on its way ends.'), field('Why', why, 'for whoever looks next')], (close) => [button('Cancel', close), yes]);
  why.focus();
}

async function shown({ root, parts, signal, may }) {
  const name = parts[1];
  const head = h('div', { class: 'head' });
  const state = h('div', {});
  const chart = h('div', {}, skeleton(4));
  const limits = h('div', {});
  const fails = h('div', {}, skeleton(2));
  async function load() {
    const [one, history, failures] = await Promise.all([api.get(`/endpoints/${api.part(name)}`, signal), api.get('/history', signal), api.get(`/failures${api.query({ endpoint: name, limit: 5 })}`, signal)]);
    const operates = may('operate') && one.configured;
    fill(head, h('div', {}, h('h1', {}, one.name, ' ', standing(one)), h('p', { class: 'mono dim id' }, one.url ?? 'The config does not have it. What waits for it stays parked until it is back, or is cancelled.')),
      h('div', { class: 'actions' },
        one.pause ? button('Resume', (event) => doing(event.currentTarget, async () => { await api.post(`/endpoints/${api.part(name)}/resume`); note(`${name} is resumed, few at first.`); await load(); }), { kind: 'primary', disabled: !operates }) : button('Pause', () => pause(one, load), { disabled: !operates }),
        button('Send a test event', (event) => doing(event.currentTarget, async () => { const made = await api.post(`/endpoints/${api.part(name)}/test`); note('A test event is on its way.'); location.hash = to.event(made.deliveries[0].id.replace(/^dlv_/, 'evt_').replace(/_\d+$/, '')); }), { disabled: !operates }),
        button('Rotate its secret', () => rotation(one), { disabled: !one.configured })));
    const circuit = one.circuit;
    fill(state, facts([
      ['Delivered', count(one.deliveries.delivered)], ['Waiting', one.backlog ? h('a', { href: `#/events?endpoint=${api.part(name)}&status=scheduled,retrying` }, count(one.backlog)) : '0'], ['Failed', one.deliveries.failed ? h('a', { href: `#/failed?endpoint=${api.part(name)}` }, count(one.deliveries.failed)) : '0'],
      one.lane && ['On the way', `${count(one.lane.in_flight)} of ${count(one.lane.window)}`], one.lane && ['Lines held', count(one.lane.lines_held)],
      one.lane?.held_until && Date.parse(one.lane.held_until) > Date.now() && ['Silent until', ago(one.lane.held_until)], one.lane?.rate_next_at && ['Rate lets the next go', ago(one.lane.rate_next_at)],
      one.pause && ['Paused', h('span', {}, ago(one.pause.since), ` by ${one.pause.cause === 'gone' ? 'the endpoint (410)' : 'an operator'}`)], one.pause?.note && ['Note', one.pause.note],
      circuit.state !== 'closed' && [`Circuit ${words(circuit.state)}`, h('span', {}, 'since ', ago(circuit.since))], circuit.state === 'open' && ['Why', `${words(circuit.cause)}, last ${circuit.last_status ?? words(circuit.last_failure)}`], circuit.state === 'open' && ['Next probe', h('span', {}, ago(circuit.probe_at), `, ${plural(circuit.probes_failed, 'probe')} failed`)],
    ]));
    const was = history.endpoints[name];
    if (!chart.matches(':hover') && !chart.contains(document.activeElement)) fill(chart, was ? plot(history.minutes, [{ name: 'Delivered', tone: 'ok', values: was.delivered }, { name: 'Failed attempts', tone: 'bad', values: was.failed }, { name: 'Waiting', tone: 'warn', values: was.backlog }], 'Per minute') : empty('Nothing yet'));
    const of = one.limits;
    fill(limits, of ? facts([['Signing', one.signing], ['At a time', of.concurrency_min === of.concurrency_max ? count(of.concurrency_max) : `${of.concurrency_min} to ${of.concurrency_max}`], ['Rate', of.rate ? `${of.rate}, ${of.rate_burst} at once` : 'no limit'], ['Order', of.order === 'none' ? 'none' : `${of.order}, held ${span(of.order_hold_max_ms)} at most`], ['Timeout', `${span(of.timeout_ms)}, ${span(of.connect_timeout_ms)} to connect`], ['Gives up', `after ${count(of.attempts_max)} attempts or ${span(of.age_max_ms)}`], ['Circuit opens', of.breaker ? `after ${of.breaker.failures} failures in a row, or ${Math.round(of.breaker.failure_rate * 100)} % of ${of.breaker.samples_min} in ${span(of.breaker.window_ms)}` : 'never']]) : empty('Not in the config'));
    fill(fails, failures.items.length ? h('ul', { class: 'groups' }, failures.items.map((group) => h('li', {}, h('a', { href: `#/failed?group=${group.id}` }, h('b', { class: 'num' }, compact(group.count)), h('span', {}, badge(group.status ?? group.class, group.dead ? 'bad' : 'warn'), h('small', { class: 'dim clip' }, group.sample.text)), ago(group.last_at))))) : empty('Nothing fails here'));
  }
  fill(root, head, h('div', { class: 'two' }, panel('Now', null, state), panel(null, null, chart)), h('div', { class: 'two' }, panel('Limits', null, limits), panel('What fails', null, fails)));
  live.refreshing(load, signal, 2000);
  await load();
}
