export type { AttentionHead, AttentionLayout, RowRange } from "./layout.ts";
export { type QkClip, type QkClipOptions, type QkClipResult, qkClip } from "./qkClip.ts";
