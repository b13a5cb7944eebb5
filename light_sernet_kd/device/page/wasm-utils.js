// What LiteRT's web runtime imports as `@litertjs/wasm-utils`: loads the script that Emscripten made, which
// leaves a factory of the compiled module in `ModuleFactory`.

export async function createWasmLib(Library, address) {
  await new Promise((loaded, failed) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = loaded;
    script.onerror = () => failed(new Error(`${address} cannot be loaded`));
    document.head.append(script);
  });
  const factory = globalThis.ModuleFactory;
  globalThis.ModuleFactory = undefined; // declared with var, it cannot be deleted
  return new Library(await factory());
}
