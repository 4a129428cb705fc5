/** The guest's kernel is not one that can be read, or not up yet. */
export class InspectError extends Error {}
