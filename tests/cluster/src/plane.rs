//! etcd and the control plane, on free ports, with certificates of their own.

use crate::certificates::{Authority, key_pair};
use crate::process::{Process, free_port, wait_for};
use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::{Path, PathBuf};

/// The running control plane.
pub struct Plane {
    pub client: Client,
    pub kubeconfig: PathBuf,
    /// Certificates of all, and `ca.crt`.
    pub pki: PathBuf,
    pub logs: PathBuf,
    pub bin: PathBuf,
    pub api: Process,
    controllers: Process,
    scheduler: Process,
    etcd: Process,
}

/// How it is to run.
pub struct Options<'a> {
    /// Where the programs are.
    pub bin: &'a Path,
    /// A folder of this run.
    pub folder: &'a Path,
    /// The period of the HPA controller; its own default is 15s.
    pub hpa_sync: &'a str,
}

impl Plane {
    /// Starts it and waits until it answers.
    pub async fn start(options: &Options<'_>) -> Result<Self> {
        let folder = |name: &str| -> Result<PathBuf> {
            let path = options.folder.join(name);
            std::fs::create_dir_all(&path)?;
            Ok(path)
        };
        let (pki, logs, etcd_data) = (folder("pki")?, folder("logs")?, folder("etcd")?);
        let authority = Authority::new(&pki, "ca")?;
        authority.sign("server", None, &["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
        authority.sign("admin", Some("system:masters"), &[])?;
        // of KEDA and of the metrics server, by the names that the API server calls them by
        let services = [
            "localhost",
            "keda-operator.keda.svc",
            "keda-metrics-apiserver.keda.svc",
            "metrics-server.kube-system.svc",
        ];
        authority.sign("tls", None, &services)?;
        Authority::new(&pki, "front-proxy-ca")?.sign("front-proxy", None, &[])?;
        key_pair(&pki, "service-accounts")?;
        let file = |name: &str| pki.join(name).display().to_string();

        let (client_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
        let arguments = [
            format!("--data-dir={}", etcd_data.display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            // nothing here has to outlive the machine
            "--unsafe-no-fsync".into(),
        ];
        let etcd = Process::start(&logs, "etcd", &options.bin.join("etcd"), &arguments, &[])?;

        let arguments = [
            format!("--etcd-servers={client_url}"),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=RBAC".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            // the address of a Service may not be a loopback one, and none here needs it
            "--endpoint-reconciler-type=none".into(),
            // the aggregator: KEDA's adapter and the metrics server answer for parts of the API
            format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
            format!("--proxy-client-key-file={}", file("front-proxy.key")),
        ];
        let api = Process::start(&logs, "kube-apiserver", &options.bin.join("kube-apiserver"), &arguments, &[])?;

        let kubeconfig = options.folder.join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(port, &pki))?;
        let read = Kubeconfig::read_from(&kubeconfig)?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let shown = kubeconfig.display().to_string();
        // The controllers give up where it is not whole within 10 s of their start.
        wait_for("the API server is ready", 90, async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            client.request_text(request).await.context("/readyz")
        })
        .await?;

        let arguments = [
            format!("--kubeconfig={shown}"),
            format!("--authentication-kubeconfig={shown}"),
            format!("--authorization-kubeconfig={shown}"),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--service-account-private-key-file={}", file("service-accounts.key")),
            format!("--secure-port={}", free_port()?),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
            format!("--horizontal-pod-autoscaler-sync-period={}", options.hpa_sync),
        ];
        let program = options.bin.join("kube-controller-manager");
        let controllers = Process::start(&logs, "kube-controller-manager", &program, &arguments, &[])?;
        let arguments = [
            format!("--kubeconfig={shown}"),
            format!("--authentication-kubeconfig={shown}"),
            format!("--authorization-kubeconfig={shown}"),
            format!("--secure-port={}", free_port()?),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
        ];
        let scheduler = Process::start(&logs, "kube-scheduler", &options.bin.join("kube-scheduler"), &arguments, &[])?;
        Ok(Self { client, kubeconfig, pki, logs, bin: options.bin.into(), api, controllers, scheduler, etcd })
    }

    /// Fails where a part of it has ended: nothing that is asserted would be of the chart's making.
    pub fn check(&mut self) -> Result<()> {
        [&mut self.etcd, &mut self.api, &mut self.controllers, &mut self.scheduler]
            .into_iter()
            .try_for_each(Process::check)
    }

    /// The path of one of the certificates' files.
    pub fn file(&self, name: &str) -> String {
        self.pki.join(name).display().to_string()
    }
}

fn kubeconfig_text(port: u16, pki: &Path) -> String {
    let file = |name: &str| pki.join(name).display().to_string();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: local\n\
         clusters: [{{name: local, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: {}}}}}]\n\
         users: [{{name: admin, user: {{client-certificate: {}, client-key: {}}}}}]\n\
         contexts: [{{name: local, context: {{cluster: local, user: admin}}}}]\n",
        file("ca.crt"),
        file("admin.crt"),
        file("admin.key"),
    )
}
