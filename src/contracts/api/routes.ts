/** Every HTTP route, for clients and for the test that compares it with the server. Bodies are in the schemas. */

export interface RouteRow {
  readonly operationId: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** `{name}` stands for an id or a name. */
  readonly path: string;
  /** Status of success. 202: the body is an Operation, `Location` its address. 101: WebSocket. */
  readonly status: 101 | 200 | 201 | 202 | 204;
}

export const ROUTES = [
  { operationId: 'getApi', method: 'GET', path: '/v1', status: 200 },
  { operationId: 'getHost', method: 'GET', path: '/v1/host', status: 200 },

  { operationId: 'listVms', method: 'GET', path: '/v1/vms', status: 200 },
  { operationId: 'createVm', method: 'POST', path: '/v1/vms', status: 201 },
  { operationId: 'getVm', method: 'GET', path: '/v1/vms/{vm}', status: 200 },
  { operationId: 'updateVm', method: 'PATCH', path: '/v1/vms/{vm}', status: 200 },
  { operationId: 'deleteVm', method: 'DELETE', path: '/v1/vms/{vm}', status: 204 },
  { operationId: 'waitVm', method: 'GET', path: '/v1/vms/{vm}/wait', status: 200 },
  { operationId: 'getVmStats', method: 'GET', path: '/v1/vms/{vm}/stats', status: 200 },
  { operationId: 'startVm', method: 'POST', path: '/v1/vms/{vm}/start', status: 202 },
  { operationId: 'haltVm', method: 'POST', path: '/v1/vms/{vm}/halt', status: 202 },
  { operationId: 'rebootVm', method: 'POST', path: '/v1/vms/{vm}/reboot', status: 202 },
  { operationId: 'shutdownVm', method: 'POST', path: '/v1/vms/{vm}/shutdown', status: 202 },
  { operationId: 'stopVm', method: 'POST', path: '/v1/vms/{vm}/stop', status: 200 },
  { operationId: 'goVm', method: 'POST', path: '/v1/vms/{vm}/go', status: 200 },
  { operationId: 'cadVm', method: 'POST', path: '/v1/vms/{vm}/cad', status: 200 },
  { operationId: 'sysrqVm', method: 'POST', path: '/v1/vms/{vm}/sysrq', status: 200 },
  { operationId: 'attachDisk', method: 'POST', path: '/v1/vms/{vm}/disks', status: 200 },
  { operationId: 'detachDisk', method: 'DELETE', path: '/v1/vms/{vm}/disks/{device}', status: 200 },
  { operationId: 'attachNic', method: 'POST', path: '/v1/vms/{vm}/nics', status: 200 },
  { operationId: 'captureNic', method: 'GET', path: '/v1/vms/{vm}/nics/{device}/capture', status: 200 },
  { operationId: 'updateNic', method: 'PATCH', path: '/v1/vms/{vm}/nics/{device}', status: 200 },
  { operationId: 'detachNic', method: 'DELETE', path: '/v1/vms/{vm}/nics/{device}', status: 200 },
  { operationId: 'getTrace', method: 'GET', path: '/v1/vms/{vm}/trace', status: 200 },
  { operationId: 'getTtyLog', method: 'GET', path: '/v1/vms/{vm}/tty-log', status: 200 },
  { operationId: 'addShare', method: 'POST', path: '/v1/vms/{vm}/shares', status: 200 },
  { operationId: 'removeShare', method: 'DELETE', path: '/v1/vms/{vm}/shares/{tag}', status: 200 },

  { operationId: 'mconsole', method: 'POST', path: '/v1/vms/{vm}/mconsole', status: 200 },
  { operationId: 'mconsoleVersion', method: 'POST', path: '/v1/vms/{vm}/mconsole/version', status: 200 },
  { operationId: 'mconsoleHelp', method: 'POST', path: '/v1/vms/{vm}/mconsole/help', status: 200 },
  { operationId: 'mconsoleHalt', method: 'POST', path: '/v1/vms/{vm}/mconsole/halt', status: 200 },
  { operationId: 'mconsoleReboot', method: 'POST', path: '/v1/vms/{vm}/mconsole/reboot', status: 200 },
  { operationId: 'mconsoleConfig', method: 'POST', path: '/v1/vms/{vm}/mconsole/config', status: 200 },
  { operationId: 'mconsoleRemove', method: 'POST', path: '/v1/vms/{vm}/mconsole/remove', status: 200 },
  { operationId: 'mconsoleSysrq', method: 'POST', path: '/v1/vms/{vm}/mconsole/sysrq', status: 200 },
  { operationId: 'mconsoleCad', method: 'POST', path: '/v1/vms/{vm}/mconsole/cad', status: 200 },
  { operationId: 'mconsoleStop', method: 'POST', path: '/v1/vms/{vm}/mconsole/stop', status: 200 },
  { operationId: 'mconsoleGo', method: 'POST', path: '/v1/vms/{vm}/mconsole/go', status: 200 },

  { operationId: 'listConsoles', method: 'GET', path: '/v1/vms/{vm}/consoles', status: 200 },
  { operationId: 'updateConsole', method: 'PATCH', path: '/v1/vms/{vm}/consoles/{console}', status: 200 },
  { operationId: 'openConsole', method: 'GET', path: '/v1/vms/{vm}/consoles/{console}', status: 101 },
  {
    operationId: 'createConsoleTicket',
    method: 'POST',
    path: '/v1/vms/{vm}/consoles/{console}/ticket',
    status: 201,
  },

  { operationId: 'listDisks', method: 'GET', path: '/v1/disks', status: 200 },
  { operationId: 'createDisk', method: 'POST', path: '/v1/disks', status: 201 },
  { operationId: 'getDisk', method: 'GET', path: '/v1/disks/{disk}', status: 200 },
  { operationId: 'updateDisk', method: 'PATCH', path: '/v1/disks/{disk}', status: 200 },
  { operationId: 'importDisk', method: 'POST', path: '/v1/disks/import', status: 202 },
  { operationId: 'exportDisk', method: 'POST', path: '/v1/disks/{disk}/export', status: 202 },
  { operationId: 'imageOfDisk', method: 'POST', path: '/v1/disks/{disk}/image', status: 202 },
  { operationId: 'resizeDisk', method: 'POST', path: '/v1/disks/{disk}/resize', status: 200 },
  { operationId: 'shrinkDisk', method: 'POST', path: '/v1/disks/{disk}/shrink', status: 202 },
  { operationId: 'deleteDisk', method: 'DELETE', path: '/v1/disks/{disk}', status: 204 },

  { operationId: 'getDiskTree', method: 'GET', path: '/v1/disks/{disk}/tree', status: 200 },
  { operationId: 'getDiskUsage', method: 'GET', path: '/v1/disks/{disk}/usage', status: 200 },
  { operationId: 'getDiskSharers', method: 'GET', path: '/v1/disks/{disk}/sharers', status: 200 },
  { operationId: 'repairDisk', method: 'POST', path: '/v1/disks/{disk}/repair', status: 200 },
  { operationId: 'getImageDependents', method: 'GET', path: '/v1/images/{image}/dependents', status: 200 },
  { operationId: 'rebaseDisk', method: 'POST', path: '/v1/disks/{disk}/rebase', status: 202 },
  { operationId: 'flattenDisk', method: 'POST', path: '/v1/disks/{disk}/flatten', status: 202 },

  { operationId: 'listImages', method: 'GET', path: '/v1/images', status: 200 },
  { operationId: 'getImage', method: 'GET', path: '/v1/images/{image}', status: 200 },
  { operationId: 'buildImage', method: 'POST', path: '/v1/images/build', status: 202 },
  { operationId: 'importImage', method: 'POST', path: '/v1/images/import', status: 202 },
  {
    operationId: 'downloadImageFile',
    method: 'GET',
    path: '/v1/images/{image}/files/{role}',
    status: 200,
  },
  { operationId: 'verifyImage', method: 'POST', path: '/v1/images/{image}/verify', status: 202 },
  { operationId: 'deleteImage', method: 'DELETE', path: '/v1/images/{image}', status: 204 },

  { operationId: 'listNetworks', method: 'GET', path: '/v1/networks', status: 200 },
  { operationId: 'createNetwork', method: 'POST', path: '/v1/networks', status: 201 },
  { operationId: 'getNetwork', method: 'GET', path: '/v1/networks/{network}', status: 200 },
  { operationId: 'updateNetwork', method: 'PATCH', path: '/v1/networks/{network}', status: 200 },
  { operationId: 'deleteNetwork', method: 'DELETE', path: '/v1/networks/{network}', status: 204 },
  { operationId: 'listNetworkPorts', method: 'GET', path: '/v1/networks/{network}/ports', status: 200 },
  {
    operationId: 'listNetworkStations',
    method: 'GET',
    path: '/v1/networks/{network}/mac-table',
    status: 200,
  },
  { operationId: 'captureNetwork', method: 'GET', path: '/v1/networks/{network}/capture', status: 200 },
  {
    operationId: 'listNetworkAddresses',
    method: 'GET',
    path: '/v1/networks/{network}/addresses',
    status: 200,
  },
  { operationId: 'reserveAddress', method: 'POST', path: '/v1/networks/{network}/addresses', status: 201 },
  {
    operationId: 'releaseAddress',
    method: 'DELETE',
    path: '/v1/networks/{network}/addresses/{address}',
    status: 204,
  },
  { operationId: 'listForwards', method: 'GET', path: '/v1/networks/{network}/forwards', status: 200 },
  { operationId: 'createForward', method: 'POST', path: '/v1/networks/{network}/forwards', status: 201 },
  {
    operationId: 'deleteForward',
    method: 'DELETE',
    path: '/v1/networks/{network}/forwards/{forward}',
    status: 204,
  },

  { operationId: 'listFirewalls', method: 'GET', path: '/v1/firewalls', status: 200 },
  { operationId: 'createFirewall', method: 'POST', path: '/v1/firewalls', status: 201 },
  { operationId: 'getFirewall', method: 'GET', path: '/v1/firewalls/{firewall}', status: 200 },
  { operationId: 'updateFirewall', method: 'PATCH', path: '/v1/firewalls/{firewall}', status: 200 },
  { operationId: 'deleteFirewall', method: 'DELETE', path: '/v1/firewalls/{firewall}', status: 204 },

  { operationId: 'createBackup', method: 'POST', path: '/v1/vms/{vm}/backups', status: 202 },
  { operationId: 'listBackups', method: 'GET', path: '/v1/backups', status: 200 },
  { operationId: 'getBackup', method: 'GET', path: '/v1/backups/{backup}', status: 200 },
  { operationId: 'deleteBackup', method: 'DELETE', path: '/v1/backups/{backup}', status: 204 },
  { operationId: 'restoreBackup', method: 'POST', path: '/v1/backups/{backup}/restore', status: 202 },
  { operationId: 'verifyBackup', method: 'POST', path: '/v1/backups/{backup}/verify', status: 202 },
  { operationId: 'testBackup', method: 'POST', path: '/v1/backups/{backup}/test', status: 202 },
  {
    operationId: 'listBackupFileSystems',
    method: 'GET',
    path: '/v1/backups/{backup}/file-systems',
    status: 200,
  },
  { operationId: 'listBackupFiles', method: 'GET', path: '/v1/backups/{backup}/files', status: 200 },
  {
    operationId: 'readBackupFile',
    method: 'GET',
    path: '/v1/backups/{backup}/files/content',
    status: 200,
  },
  { operationId: 'pruneBackups', method: 'POST', path: '/v1/vms/{vm}/backups/prune', status: 200 },

  { operationId: 'listBackupDestinations', method: 'GET', path: '/v1/backup-destinations', status: 200 },
  { operationId: 'createBackupDestination', method: 'POST', path: '/v1/backup-destinations', status: 201 },
  {
    operationId: 'getBackupDestination',
    method: 'GET',
    path: '/v1/backup-destinations/{destination}',
    status: 200,
  },
  {
    operationId: 'deleteBackupDestination',
    method: 'DELETE',
    path: '/v1/backup-destinations/{destination}',
    status: 204,
  },
  {
    operationId: 'verifyBackupDestination',
    method: 'POST',
    path: '/v1/backup-destinations/{destination}/verify',
    status: 202,
  },
  {
    operationId: 'takeOverBackupDestination',
    method: 'POST',
    path: '/v1/backup-destinations/{destination}/take-over',
    status: 200,
  },
  {
    operationId: 'collectBackupDestination',
    method: 'POST',
    path: '/v1/backup-destinations/{destination}/collect',
    status: 202,
  },
  {
    operationId: 'rebuildBackupDestination',
    method: 'POST',
    path: '/v1/backup-destinations/{destination}/rebuild',
    status: 202,
  },

  { operationId: 'listBackupSchedules', method: 'GET', path: '/v1/backup-schedules', status: 200 },
  { operationId: 'createBackupSchedule', method: 'POST', path: '/v1/vms/{vm}/backup-schedules', status: 201 },
  {
    operationId: 'getBackupSchedule',
    method: 'GET',
    path: '/v1/backup-schedules/{schedule}',
    status: 200,
  },
  {
    operationId: 'updateBackupSchedule',
    method: 'PATCH',
    path: '/v1/backup-schedules/{schedule}',
    status: 200,
  },
  {
    operationId: 'deleteBackupSchedule',
    method: 'DELETE',
    path: '/v1/backup-schedules/{schedule}',
    status: 204,
  },

  { operationId: 'createSnapshot', method: 'POST', path: '/v1/vms/{vm}/snapshots', status: 201 },
  { operationId: 'listSnapshots', method: 'GET', path: '/v1/vms/{vm}/snapshots', status: 200 },
  { operationId: 'getSnapshot', method: 'GET', path: '/v1/vms/{vm}/snapshots/{snapshot}', status: 200 },
  { operationId: 'deleteSnapshot', method: 'DELETE', path: '/v1/vms/{vm}/snapshots/{snapshot}', status: 202 },
  {
    operationId: 'rollbackSnapshot',
    method: 'POST',
    path: '/v1/vms/{vm}/snapshots/{snapshot}/rollback',
    status: 202,
  },
  {
    operationId: 'cloneSnapshot',
    method: 'POST',
    path: '/v1/vms/{vm}/snapshots/{snapshot}/clone',
    status: 201,
  },

  { operationId: 'listOperations', method: 'GET', path: '/v1/operations', status: 200 },
  { operationId: 'getOperation', method: 'GET', path: '/v1/operations/{operation}', status: 200 },
  { operationId: 'waitOperation', method: 'GET', path: '/v1/operations/{operation}/wait', status: 200 },
  { operationId: 'downloadFile', method: 'GET', path: '/v1/operations/{operation}/file', status: 200 },
  { operationId: 'deleteFile', method: 'DELETE', path: '/v1/operations/{operation}/file', status: 204 },
  { operationId: 'cancelOperation', method: 'DELETE', path: '/v1/operations/{operation}', status: 202 },

  { operationId: 'listEvents', method: 'GET', path: '/v1/events', status: 200 },
  { operationId: 'createEventTicket', method: 'POST', path: '/v1/events/ticket', status: 201 },

  { operationId: 'listTokens', method: 'GET', path: '/v1/tokens', status: 200 },
  { operationId: 'createToken', method: 'POST', path: '/v1/tokens', status: 201 },
  { operationId: 'deleteToken', method: 'DELETE', path: '/v1/tokens/{token}', status: 204 },
] as const satisfies readonly RouteRow[];

export type OperationId = (typeof ROUTES)[number]['operationId'];

/** `GET /v1/events` with an Upgrade header is the WebSocket; without, the list. */
export const EVENTS_PATH = '/v1/events';
