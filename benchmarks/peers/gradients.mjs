// gradients.mjs: registers the gradients of TensorFlow.js. Its build for Node leaves them out, and the files that have them are
// written for bundlers: modules in a package that does not say so, with imports that lack ".js".
import { register } from "node:module";

const hooks = `
  const core = (url) => url?.includes("/tfjs-core/dist/");
  export const resolve = (name, context, next) =>
    next(core(context.parentURL) && /^[.]/.test(name) && !name.endsWith(".js") ? name + ".js" : name, context);
  export const load = (url, context, next) => next(url, core(url) ? { ...context, format: "module" } : context);
`;
await import("@tensorflow/tfjs-core"); // the build for Node is no module: it is loaded before the hooks
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
await import("@tensorflow/tfjs-core/dist/register_all_gradients.js");
