// Shows the program behind the WebSocket: what it writes comes as bytes, keys go to it as bytes, the rest is JSON.
import { FitAddon } from "/addon-fit.mjs";
import { Unicode11Addon } from "/addon-unicode11.mjs";
import { Terminal } from "/xterm.mjs";

const PIECE = 64 * 1024; // bytes of a paste in one message

const place = document.getElementById("terminal");
const terminal = new Terminal({
  allowProposedApi: true, // for the widths of Unicode 11, which are those that Textual counts with
  fontFamily: 'ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace',
  fontSize: 15,
  macOptionIsMeta: true,
  scrollback: 0,
  theme: { background: "#121212" },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = "11";
terminal.open(place);
fit.fit();
terminal.focus();

const socket = new WebSocket(`ws://${location.host}/socket`);
socket.binaryType = "arraybuffer";
let over = false;

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(message);
}

function sendSize() {
  send(JSON.stringify({ type: "size", columns: terminal.cols, rows: terminal.rows }));
}

function sendBytes(bytes) {
  for (let start = 0; start < bytes.length; start += PIECE) send(bytes.subarray(start, start + PIECE));
}

function end(said, detail = "") {
  if (over) return;
  over = true;
  document.getElementById("said").textContent = said;
  document.getElementById("detail").textContent = detail;
  document.getElementById("notice").showModal();
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
}

function save({ name, kind, base64 }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytesOf(base64)], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// What the program copies. It may write to the clipboard, and never read it.
function copy(data) {
  const base64 = data.slice(data.indexOf(";") + 1);
  if (base64 !== "?") toClipboard(new TextDecoder().decode(bytesOf(base64)));
  return true;
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // There is no clipboard for pages that come unencrypted from another machine; this still works there.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    terminal.focus();
  }
}

socket.onopen = () => {
  sendSize();
  if (!document.hasFocus()) send(JSON.stringify({ type: "attention", what: "blur" }));
};
socket.onmessage = ({ data }) => {
  if (data instanceof ArrayBuffer) {
    terminal.write(new Uint8Array(data));
    return;
  }
  const message = JSON.parse(data);
  if (message.type === "file") save(message);
  if (message.type === "ended") {
    const code = message.code ? ` (exit code ${message.code})` : "";
    end(`The dashboard has ended${code}.`, message.code ? message.text : "");
  }
};
socket.onclose = ({ reason }) => {
  end(reason ? `${reason}.` : "The connection is lost: `stateview serve` does not answer.");
};

terminal.onData((text) => sendBytes(new TextEncoder().encode(text)));
terminal.onBinary((text) => sendBytes(Uint8Array.from(text, (sign) => sign.charCodeAt(0))));
terminal.onResize(sendSize);
terminal.parser.registerOscHandler(52, copy);
new ResizeObserver(() => fit.fit()).observe(place);
for (const what of ["focus", "blur"]) {
  window.addEventListener(what, () => send(JSON.stringify({ type: "attention", what })));
}
document.getElementById("notice").addEventListener("cancel", (event) => event.preventDefault());
document.getElementById("again").addEventListener("click", () => location.reload());
