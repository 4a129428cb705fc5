/** Guest images: the content-addressed store, and the builder of the default image. */
export {
  type BuildOptions,
  type BuildPhase,
  type BuildProgress,
  buildDefaultImage,
  DEFAULT_APPEND,
} from './build.ts';
export { ROOT_PASSWORD } from './guest-files.ts';
export type { ImageManifest, ImagePart } from './manifest.ts';
export { type Image, type ImageSources, ImageStore, type ImportOptions } from './store.ts';
