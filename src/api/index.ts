/** The REST and WebSocket API. */
export { type ApiOptions, buildApi } from './app.ts';
