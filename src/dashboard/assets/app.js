// The page: who is signed in, which screen is shown, how live it is.

import { h, fill, icon } from './dom.js';
import * as api from './api.js';
import * as live from './live.js';
import { compact } from './format.js';
import { button, doing, note, wrong } from './parts.js';
import { help } from './keys.js';
import * as overview from './screen-overview.js';
import * as failed from './screen-failed.js';
import * as events from './screen-events.js';
import * as event from './screen-event.js';
import * as call from './screen-call.js';
import * as endpoints from './screen-endpoints.js';
import * as replays from './screen-replays.js';
import * as sources from './screen-sources.js';
import * as audit from './screen-audit.js';

const SCREENS = { '': overview, failed, events, event, call, calls: call, endpoints, replays, sources, audit };
const MENU = [['', 'Overview', 'overview'], ['failed', 'Failed', 'failed'], ['events', 'Events', 'events'], ['calls', 'Calls', 'calls'], ['endpoints', 'Endpoints', 'endpoints'], ['replays', 'Replays', 'replays'], ['sources', 'Sources', 'sources'], ['audit', 'Audit log', 'audit']];
const UNDER = { event: 'events', call: 'calls' };
const THEMES = ['auto', 'dark', 'light'];

const app = document.getElementById('app');
let me = null;
let main = null;
let shown = null;

function theme(to) {
  let word = to || 'auto';
  try {
    if (to) localStorage.setItem('theme', to);
    word = localStorage.getItem('theme') || 'auto';
  } catch { /* without storage it is as the system has it */ }
  document.documentElement.dataset.theme = THEMES.includes(word) ? word : 'auto';
  return document.documentElement.dataset.theme;
}

function place() {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter((part, at) => part || at === 0).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { parts, params: new URLSearchParams(search) };
}

async function show() {
  if (!me) return;
  shown?.abort();
  const ending = new AbortController();
  shown = ending;
  const { parts, params } = place();
  const name = Object.hasOwn(SCREENS, parts[0]) ? parts[0] : '';
  const screen = SCREENS[name];
  for (const item of document.querySelectorAll('nav a')) {
    const is = item.dataset.name === (UNDER[name] ?? name);
    if (is) item.setAttribute('aria-current', 'page'); else item.removeAttribute('aria-current');
  }
  document.body.classList.remove('menu');
  const root = h('div', { class: `screen screen-${name || 'overview'}` });
  fill(main, root);
  main.scrollTop = 0;
  document.title = `${screen.title(parts)} · backstop`;
  const set = (changes) => {
    const next = new URLSearchParams(params);
    for (const [key, value] of Object.entries(changes)) if (value) next.set(key, value); else next.delete(key);
    const text = next.toString();
    location.hash = `#/${parts.map(api.part).join('/')}${text ? `?${text}` : ''}`;
  };
  try {
    await screen.render({ root, parts, params, set, signal: ending.signal, me, may: (role) => ['read', 'operate', 'admin'].indexOf(me.role) >= ['read', 'operate', 'admin'].indexOf(role) });
  } catch (error) {
    if (error.name !== 'AbortError' && !ending.signal.aborted) fill(root, wrong(error, show));
  }
}

function indicator() {
  const dot = h('span', { class: 'live', role: 'status' });
  const said = { live: 'Live', connecting: 'Connecting', lost: 'Not live', off: 'Not live' };
  live.onStatus((status) => {
    dot.dataset.status = status;
    fill(dot, h('i'), said[status]);
    dot.title = status === 'live' ? 'What is shown follows the gateway' : 'The live stream is not there; it is tried again';
  });
  return dot;
}

function frame() {
  const counts = { failed: h('span', { class: 'count' }), replays: h('span', { class: 'count plain' }), endpoints: h('span', { class: 'count' }) };
  live.onBeat((beat) => {
    const say = (element, value) => { const said = value ? compact(value) : ''; if (element.textContent !== said) element.textContent = said; };
    say(counts.failed, beat.failed);
    say(counts.replays, beat.replays_open);
    say(counts.endpoints, Object.values(beat.endpoints).filter((of) => of.paused || of.circuit === 'open').length);
  });
  const menu = h('nav', { 'aria-label': 'Screens' }, MENU.map(([name, label, sign]) => h('a', { href: `#/${name}`, data: { name } }, icon(sign), h('span', {}, label), counts[name] || null)));
  const look = button('Theme', () => {
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    theme(next);
    note(`Theme: ${next === 'auto' ? 'as the system has it' : next}`);
  }, { sign: 'theme', title: 'Dark, light, or as the system has it' });
  const out = button('Sign out', (click) => doing(click.currentTarget, async () => { await api.signOut(); signedOut(); }), { sign: 'out' });
  main = h('main', { id: 'main', tabindex: -1 });
  fill(app,
    h('header', { class: 'topbar' }, h('button', { class: 'plain burger', type: 'button', 'aria-label': 'Menu', on: { click: () => document.body.classList.toggle('menu') } }, icon('menu')), h('a', { class: 'brand', href: '#/' }, h('i', { class: 'logo' }), 'backstop'), indicator()),
    h('aside', { class: 'side' }, h('a', { class: 'brand', href: '#/' }, h('i', { class: 'logo' }), 'backstop'), menu,
      h('div', { class: 'foot' }, indicator(), h('p', { class: 'who', title: `role ${me.role}` }, h('b', {}, me.name), h('span', { class: 'dim' }, me.role)), h('div', { class: 'row' }, look, button('Keys', help, { sign: 'help', title: 'Keyboard (?)' }), out))),
    h('div', { class: 'shade', on: { click: () => document.body.classList.remove('menu') } }), main);
}

function login(reason) {
  live.disconnect();
  shown?.abort();
  me = null;
  hint(false);
  document.title = 'Sign in · backstop';
  const token = h('input', { type: 'password', name: 'token', autocomplete: 'current-password', spellcheck: 'false', required: true, placeholder: 'bst_…', 'aria-label': 'Token' });
  const problem = h('p', { class: 'problem', role: 'alert' }, reason || '');
  const enter = h('button', { class: 'button primary', type: 'submit' }, 'Sign in');
  const form = h('form', { class: 'login', on: { submit: async (submit) => {
    submit.preventDefault();
    const shownToken = token.value.trim();
    if (!/^[\x21-\x7e]+$/.test(shownToken)) { problem.textContent = 'A token is one word, like bst_…'; return; }
    enter.disabled = true;
    problem.textContent = '';
    try {
      await api.signIn(shownToken);
      token.value = '';
      await start();
    } catch (error) {
      problem.textContent = error.message;
      token.select();
    }
    enter.disabled = false;
  } } }, h('h1', {}, h('i', { class: 'logo' }), 'backstop'), h('p', { class: 'dim' }, 'Sign in with a token. The first one is in the file admin.token in the journal’s folder; others are made by ', h('code', {}, 'backstop token create'), '.'),
  h('label', { class: 'field' }, h('span', {}, 'Token'), token), problem, enter);
  fill(app, h('div', { class: 'alone' }, form));
  token.focus();
}

// Whether there may be a session: the cookie itself no script can see, and asking in vain would look like an error.
function hint(is) {
  try {
    if (is) localStorage.setItem('session', '1');
    if (is === false) localStorage.removeItem('session');
    return localStorage.getItem('session') === '1';
  } catch { return true; }
}

let leaving = false;
function signedOut(reason) {
  if (leaving || !me) return;
  leaving = true;
  login(reason);
  leaving = false;
}

async function start() {
  const who = await api.get('/whoami');
  me = who;
  hint(true);
  frame();
  live.connect();
  await show();
}

api.whenSignedOut(() => signedOut('The session is over. Sign in again.'));
addEventListener('hashchange', show);
theme();
if (hint()) start().catch((error) => (error.status === 401 ? login() : login(error.message))); else login();
