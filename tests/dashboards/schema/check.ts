// The dashboards are of the types that Grafana publishes: @grafana/schema's Dashboard, its panels and their options, with enums taken as
// the texts and numbers that JSON has. Compiling this is the test.
import type { Dashboard, GraphFieldConfig, Panel } from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as TimeseriesOptions } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import cost from "./cost.json";
import exporter from "./exporter.json";
import queues from "./queues.json";
import scaling from "./scaling.json";

type Loose<T> = T extends string ? string
  : T extends number ? number
  : T extends boolean | null | undefined ? T
  : T extends (infer Item)[] ? Loose<Item>[]
  : T extends object ? { [Key in keyof T]: Loose<T[Key]> }
  : T;

type Shown = Loose<Panel> & {
  type: string;
  options: Partial<Loose<StatOptions>> | Partial<Loose<TimeseriesOptions>>;
  fieldConfig: { defaults: { custom?: Partial<Loose<GraphFieldConfig>> } };
};

const boards: (Omit<Loose<Dashboard>, "panels" | "id" | "refresh"> & { id: null; refresh: string; panels: Shown[] })[] = [queues, scaling, cost, exporter];
export default boards;
