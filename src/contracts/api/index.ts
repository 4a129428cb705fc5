/** The API's vocabulary: schemas (zod) and the types inferred from them. */
export * from './backup.ts';
export * from './common.ts';
export * from './console.ts';
export * from './disk.ts';
export * from './event.ts';
export * from './forward.ts';
export * from './image.ts';
export * from './mconsole.ts';
export * from './network.ts';
export * from './nic.ts';
export * from './operation.ts';
export * from './routes.ts';
export * from './share.ts';
export * from './snapshot.ts';
export * from './token.ts';
export * from './transport.ts';
export * from './vm.ts';
