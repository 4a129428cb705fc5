export const root: string;
export const NODE_FLAGS: string[];
export function launch(file: string): void;
