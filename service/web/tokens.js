/** The learned tokens: rename, download, delete, try. */
import { base64, get, post, request } from "./api.js";
import { ago, button, confirmed, fill, h, save } from "./dom.js";
import { finished } from "./events.js";
import { alertPlace, blame, field, forgive } from "./fields.js";

/** @type {import("./app.js").View} */
export async function tokens(main, { signal }) {
  document.title = "Tokens · OVAM";
  const list = h("ul", { class: "rows" });
  const file = h("input", {
    type: "file",
    accept: ".safetensors",
    class: "unseen",
    tabindex: "-1",
    "aria-label": "A token's file",
  });
  const wrong = alertPlace();
  const load = async () => {
    const found = [];
    for (let cursor = ""; ;) {
      const page = await get(`v1/tokens?limit=100${cursor}`, { signal });
      found.push(...page.tokens);
      if (!page.next) break;
      cursor = `&cursor=${page.next}`;
    }
    fill(
      list,
      found.length
        ? found.map((token) => row(token, load))
        : h("li", { class: "hint" }, "No tokens yet. Find something in an image, correct its mask, and choose “Learn this”."),
    );
  };
  file.addEventListener("change", async () => {
    const [chosen] = file.files ?? [];
    if (!chosen) return;
    forgive(main);
    const name = chosen.name
      .toLowerCase()
      .replace(/@.*|\.safetensors$/g, "")
      .replace(/[^a-z0-9._-]+/g, "-");
    try {
      await finished(await post("v1/tokens", { format: "safetensors", name, file: await base64(chosen) }, { signal }), signal);
      await load();
    } catch (problem) {
      blame(main, problem);
    }
    file.value = "";
  });
  fill(
    main,
    h(
      "div",
      { class: "row" },
      h("h1", {}, "Tokens"),
      h("div", { class: "spacer" }),
      button("Import a file", () => file.click()),
      file,
    ),
    wrong,
    list,
  );
  await load();
}

/** @param {any} token @param {() => Promise<void>} reload */
function row(token, reload) {
  const { name, version, versions, classes, model, example_iou: iou, created_at: time, examples } = token;
  const facts = [classes.join(", "), model, iou != null && `${Math.round(100 * iou)} % on its own example`, ago(time)]
    .filter(Boolean)
    .join(" · ");
  const place = h("div", { class: "rename" });
  const item = h("li", { "aria-label": name });
  const rename = () => {
    const input = h("input", { name: "name", value: name, autocomplete: "off", spellcheck: "false" });
    const form = h(
      "form",
      { novalidate: true },
      field("name", "New name", input),
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary" }, "Rename"),
        button("Keep", () => fill(place)),
      ),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      forgive(form);
      await request("PATCH", `v1/tokens/${name}`, { body: JSON.stringify({ name: input.value.trim() }) }).then(
        reload,
        (problem) => blame(form, problem),
      );
    });
    fill(place, form);
    input.select();
  };
  const wrong = alertPlace();
  const remove = async () => {
    const question = versions > 1 ? `Delete ${name} with its ${versions} versions?` : `Delete ${name}?`;
    if (await confirmed(question, "Delete"))
      await request("DELETE", `v1/tokens/${name}`).then(reload, (problem) => blame(item, problem));
  };
  fill(
    item,
    h(
      "div",
      { class: "row" },
      h("strong", {}, name),
      h("span", { class: "tag" }, `@${version}`),
      h("div", { class: "spacer" }),
      h(
        "div",
        { class: "row" },
        h("a", { class: "button", href: `#/?find=${encodeURIComponent(`${name}@${version}`)}` }, "Try"),
        button("Rename", rename),
        button("Download", async () =>
          save(await (await request("GET", `v1/tokens/${name}/file`)).blob(), `${name}@${version}.safetensors`),
        ),
        button("Delete", remove, { class: "danger" }),
      ),
    ),
    h(
      "p",
      { class: "hint" },
      facts,
      examples.length ? [" · ", h("a", { href: `#/jobs/${examples[0].job_id}?image=${examples[0].image}` }, "its example")] : "",
    ),
    place,
    wrong,
  );
  return item;
}
