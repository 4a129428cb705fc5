/** The page: signs in, lists the VMs, carries out what is clicked, opens a console. */
import { call, list, Problem, segment, token } from './api.js';
import { openConsole } from './console.js';
import { followEvents } from './events.js';
import { openPlayer } from './player.js';
import { operationRow, vmRow } from './rows.js';

const MIB = 1024 * 1024;
/** Events come in bursts; the lists are read again once for each. */
const REFRESH_MS = 150;

const element = (id) => document.getElementById(id);

let stopEvents = () => {};
let openedConsole;
let openedRecording;
let refreshTimer;
let refreshing = Promise.resolve();

function say(text) {
  element('message').textContent = text;
  element('message').hidden = text === '';
}

function show(signedIn) {
  element('sign-in').hidden = signedIn;
  element('machines').hidden = !signedIn;
  element('sign-out').hidden = !signedIn;
  if (!signedIn) element('operations').hidden = true;
}

function signOut(reason) {
  stopEvents();
  closeConsole();
  closeRecording();
  token.clear();
  element('host').textContent = '';
  element('link').textContent = '';
  show(false);
  say(reason);
  element('token').focus();
}

/** Runs what a click asks for, and tells of what went wrong. */
async function attempt(work) {
  try {
    say('');
    await work();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) signOut('That token is not valid for this daemon.');
    else say(error instanceof TypeError ? 'The daemon does not answer.' : error.message);
  }
}

async function refresh() {
  const [vms, operations] = await Promise.all([
    list('/v1/vms'),
    call('GET', '/v1/operations?status=running&limit=20'),
  ]);
  const focused = document.activeElement?.id;
  element('vm-rows').replaceChildren(...vms.map((vm) => vmRow(vm, actions)));
  element('no-vms').hidden = vms.length > 0;
  element('operation-rows').replaceChildren(...operations.items.map(operationRow));
  element('operations').hidden = operations.items.length === 0;
  // Rows are new elements: give the keyboard its place back.
  if (focused) element(focused)?.focus({ preventScroll: true });
}

function refreshSoon() {
  clearTimeout(refreshTimer);
  refreshTimer = setTimeout(() => {
    refreshing = refreshing.then(() => attemptQuietly(refresh));
  }, REFRESH_MS);
}

/** Like `attempt`, but leaves a message that somebody may be reading. */
async function attemptQuietly(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) signOut('That token is not valid any more.');
    else if (!(error instanceof TypeError)) say(error.message);
  }
}

async function readImages() {
  const images = await list('/v1/images');
  const options = images.map((image) => new Option(image.name ?? image.id, image.id));
  element('create-image').replaceChildren(...options);
}

const actions = {
  verb: (vm, verb) =>
    attempt(async () => {
      await call('POST', `/v1/vms/${segment(vm.id)}/${verb}`, {});
      refreshSoon();
    }),
  remove: (vm) =>
    attempt(async () => {
      if (!confirm(`Delete ${vm.name} and its disks?`)) return;
      await call('DELETE', `/v1/vms/${segment(vm.id)}`);
      refreshSoon();
    }),
  console: (vm, name) =>
    attempt(async () => {
      closeConsole();
      element('console-title').textContent = `${vm.name} ${name}`;
      element('console').hidden = false;
      openedConsole = await openConsole({
        vm: vm.id,
        console: name,
        container: element('terminal'),
        onLeave: () => element('console-close').focus(),
      });
      element('console').scrollIntoView({ block: 'nearest' });
    }),
  recording: (vm) =>
    attempt(async () => {
      closeRecording();
      element('recording-title').textContent = `Recording of ${vm.name}`;
      const consoles = vm.consoles.map((name) => new Option(name, name));
      element('recording-console').replaceChildren(...consoles);
      element('recording-console').onchange = ({ target }) => attempt(() => play(vm, target.value));
      element('recording').hidden = false;
      await play(vm, vm.consoles[0]);
      element('recording').scrollIntoView({ block: 'nearest' });
    }),
};

async function play(vm, name) {
  openedRecording?.close();
  openedRecording = await openPlayer({
    vm: vm.id,
    console: name,
    container: element('recording-terminal'),
    onState: (state) => {
      element('recording-state').textContent = state === 'ended' ? 'That was all.' : 'Playing…';
    },
  });
  element('recording-speed').value = '1';
}

function closeRecording() {
  openedRecording?.close();
  openedRecording = undefined;
  element('recording').hidden = true;
}

function closeConsole() {
  openedConsole?.close();
  openedConsole = undefined;
  element('console').hidden = true;
}

async function enter() {
  const host = await call('GET', '/v1/host');
  element('host').textContent = `version ${host.version}`;
  show(true);
  await Promise.all([refresh(), readImages()]);
  stopEvents = followEvents({
    onEvent: (event) => {
      refreshSoon();
      if (event.type.startsWith('image.')) attemptQuietly(readImages);
    },
    onLink: (connected) => {
      element('link').textContent = connected ? '' : 'Connection lost; trying again…';
      if (connected) refreshSoon();
    },
  });
}

element('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token.set(element('token').value.trim());
  element('token').value = '';
  attempt(enter);
});

element('create-form').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    const name = element('create-name').value;
    await call('POST', '/v1/vms', {
      ...(name !== '' && { name }),
      image: element('create-image').value,
      memory_bytes: Number(element('create-memory').value) * MIB,
      start: element('create-start').checked,
    });
    element('create-name').value = '';
    refreshSoon();
  });
});

element('sign-out').addEventListener('click', () => signOut(''));
element('recording-again').addEventListener('click', () => openedRecording?.again());
element('recording-speed').addEventListener('change', ({ target }) => {
  openedRecording?.setSpeed(Number(target.value));
});
element('recording-close').addEventListener('click', () => {
  closeRecording();
  element('machines').focus();
});
element('console-close').addEventListener('click', () => {
  closeConsole();
  element('machines').focus();
});

if (token.get() === null) {
  show(false);
  element('token').focus();
} else {
  attempt(enter);
}
