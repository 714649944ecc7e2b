// node draw.js PICTURES.json FOLDER: a page for each dashboard in FOLDER, complete in itself.
const fs = require("fs");
const path = require("path");

const [file, folder] = process.argv.slice(2);
const here = (name) => fs.readFileSync(path.join(__dirname, name), "utf8");
const library = path.dirname(require.resolve("uplot/package.json"));
const uplot = (name) => fs.readFileSync(path.join(library, "dist", name), "utf8");
for (const shown of JSON.parse(fs.readFileSync(file, "utf8"))) {
  const data = JSON.stringify(shown).replace(/</g, "\\u003c");
  const rows = Math.max(...shown.dashboard.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  const page = `<!doctype html><meta charset="utf-8"><style>${uplot("uPlot.min.css")}${here("page.css")}</style>
<script>${uplot("uPlot.iife.min.js")}</script><script>${here("page.js")}</script><body><script>draw(${data})</script>`;
  fs.writeFileSync(path.join(folder, `${shown.name}.html`), page);
  console.log(shown.name, rows * 34 + 56);
}
