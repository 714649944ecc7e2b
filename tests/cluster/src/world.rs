//! Everything together: the plane, KEDA, kube-state-metrics, Prometheus, Redis and the exporter; the chart as users install it.

use crate::apply::apply;
use crate::failover::{self, Failover};
use crate::keda::{self, Keda, base64};
use crate::nodes;
use crate::plane::{Options, Plane};
use crate::process::{Process, free_port, wait_for};
use crate::quicker::quicker;
use crate::service::Service;
use crate::workers::{Workers, connect, job};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams};
use kube::{Client, ResourceExt};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the scenarios' values are on top of.
const PRESET: &str = "keda/chart/presets/seed.yaml";
/// A minute of the alert rules is five seconds here.
const HASTE: u64 = 12;

/// Where things are.
#[derive(Clone)]
pub struct Places {
    /// The plane's programs.
    pub bin: PathBuf,
    pub helm: PathBuf,
    pub crds: PathBuf,
    pub exporter: PathBuf,
    /// The project's root.
    pub project: PathBuf,
    /// A folder of this run.
    pub run: PathBuf,
}

/// The running whole.
pub struct World {
    pub plane: Plane,
    pub keda: Keda,
    pub redis: Process,
    pub redis_port: u16,
    pub exporter: Option<Process>,
    pub prometheus: Process,
    pub state_metrics: Process,
    /// Where a scenario needs one.
    pub metrics_server: Option<Process>,
    pub failover: Option<Failover>,
    /// The chart's, as they were last used.
    pub values: String,
    /// When how many jobs were put into which queue, and the milliseconds that each takes.
    puts: Mutex<Vec<(Instant, String, u64, u64)>>,
    /// Beside the first exporter, where a scenario has two.
    second: Option<(Process, Service)>,
    places: Places,
    prometheus_port: u16,
    exporter_port: u16,
    grpc_port: u16,
    _kwok: Process,
}

impl World {
    /// Starts all but the exporter, which needs the chart's list of queues.
    pub async fn start(places: Places, hpa_sync: &str, scrape: &str) -> Result<Self> {
        let options = Options { bin: &places.bin, folder: &places.run, hpa_sync };
        let plane = Plane::start(&options).await.context("the control plane")?;
        let kwok = nodes::start(&plane).await?;
        let keda = keda::start(&plane, &places.crds).await.context("KEDA")?;
        let (redis_port, prometheus_port, exporter_port, grpc_port, state_port) =
            (free_port()?, free_port()?, free_port()?, free_port()?, free_port()?);
        let redis = failover::redis(&plane.logs, &places.run.join("redis"), redis_port)?;
        let arguments = [
            format!("--kubeconfig={}", plane.kubeconfig.display()),
            "--host=127.0.0.1".into(),
            format!("--port={state_port}"),
            "--telemetry-host=127.0.0.1".into(),
            format!("--telemetry-port={}", free_port()?),
            "--resources=deployments,horizontalpodautoscalers,pods,poddisruptionbudgets".into(),
            format!(
                "--custom-resource-state-config-file={}",
                places.project.join("alerts/kube-state-metrics.yaml").display()
            ),
        ];
        let program = places.bin.join("kube-state-metrics");
        let state_metrics = Process::start(&plane.logs, "kube-state-metrics", &program, &arguments, &[])?;
        let config = places.run.join("prometheus.yaml");
        for entry in std::fs::read_dir(places.project.join("alerts"))? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|ending| ending == "yaml")) {
                std::fs::write(places.run.join(name), quicker(&std::fs::read_to_string(&path)?, HASTE))?;
            }
        }
        let targets = format!(
            "global: {{scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: {scrape}}}\n\
             rule_files: ['{}/*.rules.yaml']\nscrape_configs:\n\
             - {{job_name: queue-exporter, static_configs: [{{targets: ['127.0.0.1:{exporter_port}'], labels: {{namespace: jobs}}}}]}}\n\
             - {{job_name: kube-state-metrics, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{state_port}']}}]}}\n\
             - {{job_name: keda, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n",
            places.run.display(),
            keda.metrics_port
        );
        std::fs::write(&config, targets)?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", places.run.join("prometheus").display()),
            format!("--web.listen-address=127.0.0.1:{prometheus_port}"),
        ];
        let prometheus = Process::start(&plane.logs, "prometheus", Path::new("prometheus"), &arguments, &[])?;
        let world = Self {
            plane,
            keda,
            redis,
            redis_port,
            exporter: None,
            prometheus,
            state_metrics,
            metrics_server: None,
            failover: None,
            values: String::new(),
            puts: Mutex::default(),
            second: None,
            places,
            prometheus_port,
            exporter_port,
            grpc_port,
            _kwok: kwok,
        };
        wait_for("Redis answers", 10, async || world.connect().await).await?;
        // KEDA wants to read what a worker's variables refer to, whatever its triggers are: without the Secret it makes no HPA.
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: jobs, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}\n\
             \n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: redis-secret, namespace: jobs}}\nstringData: {{url: '{}'}}\n",
            world.redis_url()
        );
        apply(&world.plane.client, &namespace).await?;
        Ok(world)
    }

    pub fn redis_url(&self) -> String {
        let direct = || format!("redis://127.0.0.1:{}", self.redis_port);
        self.failover.as_ref().map_or_else(direct, |failover| failover.url.clone())
    }

    /// What all workers together may cost in a month, in US dollars.
    pub fn set_budget(&self, dollars: u32) -> Result<()> {
        let rules = self.places.run.join("prices.rules.yaml");
        // The budget is the one price of 0.
        let text = std::fs::read_to_string(&rules)?.replace("vector(0)", &format!("vector({dollars})"));
        std::fs::write(rules, text)?;
        self.prometheus.signal("HUP")
    }

    /// From now on, until the chart is taken away, Redis has a replica that takes over.
    pub async fn watch_redis(&mut self) -> Result<()> {
        self.failover = Some(Failover::start(&self.plane.logs, &self.places.run, self.redis_port).await?);
        Ok(())
    }

    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        connect(&self.redis_url()).await
    }

    /// Installs the chart with these values, as a user does, and starts the exporter on the list of queues that it made.
    pub async fn install(&mut self, values: &str) -> Result<()> {
        self.install_with(values, "").await
    }

    /// The same with more values of the exporter's own, each after a comma.
    pub async fn install_with(&mut self, values: &str, exporter: &str) -> Result<()> {
        self.install_chart(values, exporter)?;
        self.start_installed().await
    }

    /// Starts the exporter on the list of queues that is installed.
    pub async fn start_installed(&mut self) -> Result<()> {
        let list = self.list_of_queues().await?;
        self.exporter = None;
        self.exporter = Some(self.start_exporter("queue-exporter", &list, self.exporter_port, self.grpc_port, &[])?);
        Ok(())
    }

    /// The same with two exporters behind one address, who want to see certificates.
    pub async fn install_two(&mut self, values: &str) -> Result<()> {
        let authentication = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: scaler, namespace: jobs}}\ndata: {{ca.crt: {}, tls.crt: {}, tls.key: {}}}\n\
             \n---\napiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {{name: scaler, namespace: jobs}}\n\
             spec: {{secretTargetRef: [{{parameter: caCert, name: scaler, key: ca.crt}}, \
             {{parameter: tlsClientCert, name: scaler, key: tls.crt}}, {{parameter: tlsClientKey, name: scaler, key: tls.key}}]}}\n",
            base64(&std::fs::read(self.plane.file("ca.crt"))?),
            base64(&std::fs::read(self.plane.file("admin.crt"))?),
            base64(&std::fs::read(self.plane.file("admin.key"))?)
        );
        apply(&self.plane.client, &authentication).await?;
        let grpc = ", grpc: {tls: {secretName: scaler, clientCa: true}, authenticationRef: {name: scaler}}";
        self.install_chart(values, grpc)?;
        let list = self.list_of_queues().await?;
        let ports = [free_port()?, free_port()?];
        let files = [self.plane.file("server.crt"), self.plane.file("server.key"), self.plane.file("ca.crt")];
        let tls = [("GRPC_CERT_FILE", &*files[0]), ("GRPC_KEY_FILE", &*files[1]), ("GRPC_CLIENT_CA_FILE", &*files[2])];
        self.exporter = None;
        self.exporter = Some(self.start_exporter("queue-exporter", &list, self.exporter_port, ports[0], &tls)?);
        let second = self.start_exporter("queue-exporter-2", &list, free_port()?, ports[1], &tls)?;
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let service = Service::start(address(self.grpc_port), ports.map(address).to_vec()).await?;
        self.second = Some((second, service));
        Ok(())
    }

    fn install_chart(&mut self, values: &str, exporter: &str) -> Result<()> {
        let file = self.write_values(values, exporter)?;
        self.helm(
            &[
                "upgrade",
                "--install",
                "queue-exporter",
                "keda/chart",
                "--namespace",
                "jobs",
                "--values",
                PRESET,
                "--values",
            ],
            Some(&file),
        )?;
        Ok(())
    }

    /// The file of the queues that are installed.
    async fn list_of_queues(&self) -> Result<String> {
        let api: Api<ConfigMap> = Api::namespaced(self.plane.client.clone(), "jobs");
        let queues = api.get("queue-exporter").await?.data.unwrap_or_default();
        let list = self.places.run.join("queues.yaml");
        std::fs::write(&list, queues.get("queues.yaml").context("no list of queues")?)?;
        Ok(list.display().to_string())
    }

    fn start_exporter(&self, name: &str, list: &str, port: u16, grpc: u16, more: &[(&str, &str)]) -> Result<Process> {
        let (url, address, grpc) = (self.redis_url(), format!("127.0.0.1:{port}"), format!("127.0.0.1:{grpc}"));
        let environment = [
            ("REDIS_URL", url.as_str()),
            ("QUEUES_FILE", list),
            ("LISTEN_ADDR", &address),
            ("GRPC_ADDR", &grpc),
            // short, as all windows here
            ("RATE_WINDOW", "15s"),
        ];
        Process::start(&self.plane.logs, name, &self.places.exporter, &[], &[&environment, more].concat())
    }

    /// These values and where things are; `exporter` is added to the exporter's.
    fn write_values(&mut self, values: &str, exporter: &str) -> Result<PathBuf> {
        let file = self.places.run.join("values.yaml");
        let ports = format!(
            "prometheus: {{address: 'http://127.0.0.1:{}'}}\n\
             exporter: {{url: 'http://127.0.0.1:{}/metrics', scalerAddress: '{}'{exporter}}}\n",
            self.prometheus_port,
            self.exporter_port,
            self.scaler_address()
        );
        self.values = ports + values;
        std::fs::write(&file, &self.values)?;
        Ok(file)
    }

    /// Takes the chart away and empties Redis; waits until no worker is left.
    pub async fn uninstall(&mut self) -> Result<()> {
        self.helm(&["uninstall", "queue-exporter", "--namespace", "jobs", "--ignore-not-found", "--wait=false"], None)?;
        self.values.clear();
        self.exporter = None;
        self.second = None;
        let all: Api<Pod> = Api::all(self.plane.client.clone());
        wait_for("no pod is left", 120, async || {
            let pods = all.list(&ListParams::default()).await?;
            for pod in &pods {
                let api: Api<Pod> = Api::namespaced(self.plane.client.clone(), &pod.namespace().unwrap_or_default());
                let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
            }
            ensure!(pods.items.is_empty(), "{} pods", pods.items.len());
            Ok(())
        })
        .await?;
        if self.failover.take().is_some() {
            // The first one again, as it was at the start.
            self.redis.kill();
            self.redis = failover::redis(&self.plane.logs, &self.places.run.join("redis"), self.redis_port)?;
        }
        wait_for("Redis is empty", 20, async || {
            Ok(redis::cmd("FLUSHALL").exec_async(&mut self.connect().await?).await?)
        })
        .await
    }

    fn helm(&self, arguments: &[&str], file: Option<&Path>) -> Result<String> {
        let file = file.map(|path| path.display().to_string());
        let arguments: Vec<&str> = arguments.iter().copied().chain(file.as_deref()).collect();
        let output = std::process::Command::new(&self.places.helm)
            .args(&arguments)
            .env("KUBECONFIG", &self.plane.kubeconfig)
            .env("HELM_CACHE_HOME", self.places.run.join("helm"))
            .current_dir(&self.places.project)
            .output()?;
        ensure!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Commands of a user's shell, in a folder where `keda` is the project's, with `kubectl` and `helm`; gives what they print.
    pub async fn shell(&self, commands: &str) -> Result<String> {
        let folder = self.places.run.join("shell");
        if !folder.exists() {
            std::fs::create_dir_all(folder.join("bin"))?;
            symlink(self.places.project.join(&self.plane.bin).join("kubectl"), folder.join("bin/kubectl"))?;
            symlink(self.places.project.join(&self.places.helm), folder.join("bin/helm"))?;
            symlink(self.places.project.join("keda"), folder.join("keda"))?;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let output = tokio::process::Command::new("bash")
            .args(["-euc", commands])
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .env("KUBECONFIG", &self.plane.kubeconfig)
            .env("HELM_CACHE_HOME", self.places.run.join("helm"))
            .current_dir(&folder)
            .kill_on_drop(true)
            .output()
            .await?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{commands}: {printed}{}", String::from_utf8_lossy(&output.stderr));
        Ok(printed)
    }

    /// The text of one of the project's files.
    pub fn project_file(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.places.project.join(path)).with_context(|| path.to_string())
    }

    /// Where KEDA finds the exporter.
    pub fn scaler_address(&self) -> String {
        format!("127.0.0.1:{}", self.grpc_port)
    }

    /// Whether an alert is firing, by Prometheus.
    pub async fn is_firing(&self, alert: &str) -> Result<bool> {
        let query = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        Ok(self.series(&query).await? > 0)
    }

    /// How many series a query gives now.
    pub async fn series(&self, query: &str) -> Result<usize> {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded(query))).await?;
        Ok(answer.as_array().map_or(0, Vec::len))
    }

    /// The series that a query gives between two moments, in seconds since 1970.
    pub async fn query_range(&self, query: &str, start: u64, end: u64, step: u64) -> Result<Value> {
        let range = format!("start={start}&end={end}&step={step}");
        self.ask(&format!("/api/v1/query_range?{range}&query={}", encoded(query))).await
    }

    /// Asks Prometheus; gives the result of what it answers.
    async fn ask(&self, path: &str) -> Result<Value> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.prometheus_port)).await?;
        // HTTP/1.0: the answer comes whole
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let mut body: Value = serde_json::from_str(body).with_context(|| answer.clone())?;
        ensure!(body["status"] == "success", "{path}: {body}");
        Ok(body["data"]["result"].take())
    }

    /// Other values for what is installed.
    pub fn upgrade(&mut self, values: &str) -> Result<()> {
        let file = self.write_values(values, "")?;
        self.helm(
            &["upgrade", "queue-exporter", "keda/chart", "--namespace", "jobs", "--values", PRESET, "--values"],
            Some(&file),
        )?;
        Ok(())
    }

    /// Takes away what stands in for the chart in a comparison.
    pub async fn delete_plain(&self) -> Result<()> {
        let kind = kube::core::GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
        let (resource, _) = kube::discovery::pinned_kind(&self.plane.client, &kind).await?;
        let scaled: Api<DynamicObject> = Api::namespaced_with(self.plane.client.clone(), "jobs", &resource);
        scaled.delete("crawler-worker", &DeleteParams::default()).await?;
        let deployments: Api<Deployment> = Api::namespaced(self.plane.client.clone(), "jobs");
        deployments.delete("crawler-worker", &DeleteParams::default()).await?;
        Ok(())
    }

    /// The running exporter.
    pub fn exporter(&mut self) -> Result<&mut Process> {
        self.exporter.as_mut().context("the chart is not installed")
    }

    /// The one beside it.
    pub fn second_exporter(&mut self) -> Result<&mut Process> {
        self.second.as_mut().map(|(exporter, _)| exporter).context("there is but one exporter")
    }

    async fn pods(&self, worker: &str) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.plane.client.clone(), "jobs");
        let selector = ListParams::default().labels(&format!("queue-exporter/worker={worker}"));
        Ok(api
            .list(&selector)
            .await?
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect())
    }

    /// The nodes that a worker's pods are on.
    pub async fn nodes_of(&self, worker: &str) -> Result<Vec<String>> {
        let pods = self.pods(worker).await?;
        let mut nodes: Vec<String> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The images that a worker's pods run.
    pub async fn images(&self, worker: &str) -> Result<Vec<String>> {
        let pods = self.pods(worker).await?;
        let containers = pods.iter().filter_map(|pod| pod.spec.as_ref()).flat_map(|spec| &spec.containers);
        Ok(containers.filter_map(|container| container.image.clone()).collect())
    }

    /// No new pods on a node, or again some.
    pub async fn cordon(&self, node: &str, cordoned: bool) -> Result<()> {
        let api: Api<Node> = Api::all(self.plane.client.clone());
        if cordoned {
            api.cordon(node).await?
        } else {
            api.uncordon(node).await?
        };
        Ok(())
    }

    /// Evicts what is on a node, as `kubectl drain` does: again and again while a budget says no.
    pub async fn drain(&self, node: &str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.plane.client.clone(), "jobs");
        let on_it = ListParams::default().fields(&format!("spec.nodeName={node}"));
        wait_for("the node is empty", 90, async || {
            let pods = api.list(&on_it).await?;
            for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                let _ = api.evict(pod.metadata.name.as_deref().unwrap_or_default(), &EvictParams::default()).await;
            }
            let workers = pods.iter().filter(|pod| pod.labels().contains_key("queue-exporter/worker")).count();
            ensure!(workers == 0, "{workers} pods");
            Ok(())
        })
        .await
    }

    /// Takes every second node of a capacity type away without a word; gives the number of workers on them.
    pub async fn lose_half_of(&self, capacity: &str) -> Result<usize> {
        let nodes: Api<Node> = Api::all(self.plane.client.clone());
        let pods: Api<Pod> = Api::namespaced(self.plane.client.clone(), "jobs");
        let selector = ListParams::default().labels(&format!("karpenter.sh/capacity-type={capacity}"));
        let mut lost = 0;
        for node in nodes.list(&selector).await?.iter().step_by(2) {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            self.cordon(name, true).await?;
            let on_it = ListParams::default().fields(&format!("spec.nodeName={name}"));
            for pod in pods.list(&on_it).await?.iter() {
                let now = DeleteParams::default().grace_period(0);
                pods.delete(pod.metadata.name.as_deref().unwrap_or_default(), &now).await?;
                lost += 1;
            }
            self.cordon(name, false).await?;
        }
        Ok(lost)
    }

    /// What is in flight goes back to its queue.
    pub async fn put_back(&self, queue: &str) -> Result<()> {
        let mut redis = self.connect().await?;
        let taken = format!("{queue}:processing");
        while redis
            .lmove::<_, _, Option<String>>(&taken, queue, redis::Direction::Right, redis::Direction::Right)
            .await?
            .is_some()
        {}
        Ok(())
    }

    /// Real workers for the pods of this worker.
    pub fn workers(&self, queue: &str) -> Workers {
        Workers::start(&self.plane.client, &self.redis_url(), queue)
    }

    /// Puts in `count` jobs that take so many milliseconds each.
    pub async fn put(&self, queue: &str, count: u64, takes: u64) -> Result<()> {
        let jobs: Vec<String> = (0..count).map(|number| job(number, takes)).collect();
        let mut redis = self.connect().await?;
        for part in jobs.chunks(1_000) {
            let _: u64 = redis.lpush(queue, part).await?;
        }
        if let Ok(mut puts) = self.puts.lock() {
            puts.push((Instant::now(), queue.to_string(), count, takes));
        }
        Ok(())
    }

    /// What was put into a queue from a moment on: seconds since then, how many, and the milliseconds that each takes.
    pub fn puts(&self, queue: &str, since: Instant) -> Vec<(f64, u64, u64)> {
        let puts = self.puts.lock().map(|puts| puts.clone()).unwrap_or_default();
        let of_queue = puts.into_iter().filter(|(when, name, ..)| name == queue && *when >= since);
        of_queue.map(|(when, _, count, takes)| ((when - since).as_secs_f64(), count, takes)).collect()
    }
}

/// For the query of a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What the Deployment of this worker is to have.
pub async fn replicas(client: &Client, worker: &str) -> Result<u64> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "jobs");
    let deployment = api.get(&format!("{worker}-worker")).await?;
    Ok(deployment.spec.replicas.unwrap_or(0).unsigned_abs().into())
}
