/** Elements for VMs and operations. Text from the daemon goes in as text, never as markup. */

const MIB = 1024 * 1024;
const OFF = ['created', 'halted', 'failed'];

/** Buttons of a VM: what they say, what they do, and in which states they make sense. */
const VERBS = [
  { verb: 'start', label: 'Start', states: OFF },
  { verb: 'shutdown', label: 'Shut down', states: ['running'] },
  { verb: 'halt', label: 'Halt', states: ['starting', 'running', 'stopped'] },
  { verb: 'stop', label: 'Freeze', states: ['running'] },
  { verb: 'go', label: 'Go on', states: ['stopped'] },
];

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function cell(label, ...children) {
  const node = make('td', {}, ...children);
  node.dataset.label = label;
  return node;
}

function button(vm, id, label, onClick) {
  const node = make('button', { type: 'button', id: `${id}-${vm.id}`, textContent: label });
  node.setAttribute('aria-label', `${label} ${vm.name}`);
  node.addEventListener('click', onClick);
  return node;
}

function stateCell(vm) {
  const state = make('span', { className: `state state-${vm.state}`, textContent: vm.state });
  if (vm.cause === null) return cell('State', state);
  return cell(
    'State',
    make('div', {}, state, make('span', { className: 'cause', textContent: vm.cause.detail })),
  );
}

/** `actions` has `verb(vm, verb)`, `console(vm, name)`, `recording(vm)` and `remove(vm)`. */
export function vmRow(vm, actions) {
  const buttons = VERBS.filter(({ states }) => states.includes(vm.state)).map(({ verb, label }) =>
    button(vm, verb, label, () => actions.verb(vm, verb)),
  );
  const [first] = vm.consoles;
  if (first !== undefined) buttons.push(button(vm, 'console', 'Console', () => actions.console(vm, first)));
  if (vm.watch.includes('tty'))
    buttons.push(button(vm, 'recording', 'Recording', () => actions.recording(vm)));
  if (OFF.includes(vm.state)) buttons.push(button(vm, 'delete', 'Delete', () => actions.remove(vm)));
  const addresses = vm.nics.flatMap((nic) => nic.addresses).join(' ');
  return make(
    'tr',
    {},
    make('th', { scope: 'row', textContent: vm.name }),
    stateCell(vm),
    cell('Address', addresses || '–'),
    cell('Memory', `${Math.round(vm.memory_bytes / MIB)} MiB`),
    cell('Image', vm.image_name),
    cell('Actions', make('div', { className: 'actions' }, ...buttons)),
  );
}

export function operationRow(operation) {
  const { progress } = operation;
  const bar = make('progress', {});
  bar.setAttribute('aria-label', operation.kind);
  if (progress !== null && progress.total > 0) {
    bar.max = progress.total;
    bar.value = progress.done;
  }
  return make('li', {}, operation.kind, bar, progress?.message ?? '');
}
