//! The chart: over a matrix of values, of Kubernetes' versions and of Helm's, against schemas, resource definitions and policy;
//! bad values; and its output for the defaults, which is kept in keda/rendered (`make golden` writes it anew).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use queue_exporter::layout::TABLE;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;
use support::Redis;
use support::chart::{Object, ROOT, objects, print, render, tool};

/// Before and after the HPA's own tolerance, and the ends of what is tested.
const KUBERNETES: [&str; 4] = ["1.30.0", "1.34.0", "1.35.0", "1.37.0"];

/// All files of values, as arguments of helm.
fn matrix() -> Vec<Vec<String>> {
    let mut files: Vec<String> = std::fs::read_dir(format!("{ROOT}/tests/chart/values"))
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_string())
        .collect();
    files.sort();
    assert!(files.len() >= 9, "{files:?}");
    files.into_iter().map(|file| vec!["--values".to_string(), file]).collect()
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn every_object_is_valid_on_every_version() {
    for values in matrix() {
        let values = borrowed(&values);
        for helm in ["helm3", "helm4"] {
            let lint = [&["lint", "--strict", "keda/chart", "--kube-version", "1.35.0"], &values[..]].concat();
            print(helm, &lint, "");
        }
        for kubernetes in KUBERNETES {
            let manifest = render("helm3", kubernetes, &values);
            let all = objects(&manifest);
            let same = objects(&render("helm4", kubernetes, &values));
            assert!(all.iter().map(|object| &object.text).eq(same.iter().map(|object| &object.text)), "{values:?}");
            let names: BTreeSet<(&str, &str)> = all.iter().map(|object| (object.kind(), object.name())).collect();
            assert_eq!(names.len(), all.len(), "two objects share a name: {values:?}");
            assert!(all.iter().all(|object| object.value["metadata"]["namespace"] == "jobs"));
            check(&all, kubernetes);
        }
    }
}

/// Kubernetes' own kinds against its schemas, the others as the API server checks custom resources.
fn check(all: &[Object], kubernetes: &str) {
    let own = |object: &&Object| {
        let version = object.value["apiVersion"].as_str().unwrap();
        !version.contains('.') || version.contains(".k8s.io/")
    };
    let join = |texts: Vec<&Object>| texts.iter().map(|object| object.text.as_str()).collect::<Vec<_>>().join("---\n");
    let builtin = join(all.iter().filter(own).collect());
    let custom = join(all.iter().filter(|object| !own(object)).collect());
    let minor = kubernetes.rsplit_once('.').unwrap().0;
    print("kubernetes-validate", &["--kubernetes-version", minor, "--strict", "-"], &builtin);
    for keda in ["keda-2.20.2", "keda-2.21.0"] {
        print("validate", &[&format!(".cache/chart/crds/{keda}")], &custom);
    }
}

#[test]
fn the_checkers_find_faults() {
    let manifest = render("helm3", "1.35.0", &[]);
    let all = objects(&manifest);
    let of = |kind: &str| all.iter().find(|object| object.kind() == kind).unwrap().text.clone();
    let bad = of("Deployment").replace("revisionHistoryLimit: 3", "revisionHistoryLimits: 3");
    let output = tool("kubernetes-validate", &["--kubernetes-version", "1.35", "--strict", "-"], &bad);
    assert!(!output.status.success());
    let crds = ".cache/chart/crds/keda-2.21.0";
    for (wrong, fault) in [
        (of("ScaledObject").replace("fallback:", "falback:"), "unknown field spec.falback"),
        (
            of("ScaledObject").replace("maxReplicaCount: 10", "maxReplicaCount: 1"),
            "less than or equal to maxReplicaCount",
        ),
        (of("ScaledObject").replace("failureThreshold: 3", "failureThreshold: three"), "failureThreshold"),
    ] {
        let output = tool("validate", &[crds], &wrong);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(fault), "{fault}");
    }
    let open = of("Deployment").replace("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true");
    assert!(!tool("kube-score", &["score", "-"], &open).status.success());
}

/// Limits, probes, no privilege, budgets: kube-score's rules but for four.
#[test]
fn every_pod_keeps_to_policy() {
    let ignored = [
        "container-image-pull-policy",           // tags are versions here, not moved
        "pod-networkpolicy",                     // where workers may go is theirs; the exporter's is tested below
        "deployment-has-host-podantiaffinity",   // topology spread does it
        "deployment-replicas",                   // one exporter is enough: KEDA holds while it is away
        "container-security-context-privileged", // asks for `privileged: false`, which is the default
    ];
    for values in matrix() {
        let manifest = render("helm3", "1.35.0", &borrowed(&values));
        print("kube-score", &["score", "-", "--output-format", "ci", "--ignore-test", &ignored.join(",")], &manifest);
        for object in objects(&manifest) {
            let pod = match object.kind() {
                "Deployment" => &object.value["spec"]["template"]["spec"],
                "ScaledJob" => &object.value["spec"]["jobTargetRef"]["template"]["spec"],
                _ => continue,
            };
            let name = object.name();
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            let container = &pod["containers"][0];
            assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL", "{name}");
            for resource in ["cpu", "memory"] {
                assert!(container["resources"]["limits"][resource].is_string(), "{name}");
            }
        }
    }
}

#[test]
fn the_seeds_numbers_are_a_preset() {
    let all = objects(&render(
        "helm3",
        "1.35.0",
        &["--values", "keda/chart/presets/seed.yaml", "--set", "trigger=prometheus"],
    ));
    let scaled =
        |name: &str| all.iter().find(|object| object.kind() == "ScaledObject" && object.name() == name).unwrap();
    for (worker, up) in [("crawler", "20"), ("ocr", "50"), ("parser", "30"), ("labeler", "40")] {
        let scaled = scaled(&format!("{worker}-worker"));
        assert_eq!(scaled.trigger("backlog")["threshold"], up);
        let behavior = &scaled.value["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
        assert_eq!(behavior["scaleUp"]["stabilizationWindowSeconds"], 60);
        assert_eq!(behavior["scaleDown"]["policies"][0]["value"], 50);
    }
}

#[test]
fn the_exporter_takes_its_list_of_queues() {
    let redis = Redis::start();
    for values in matrix() {
        let all = objects(&render("helm3", "1.35.0", &borrowed(&values)));
        let config =
            all.iter().find(|object| object.kind() == "ConfigMap" && object.name() == "queue-exporter").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.value["data"]["queues.yaml"].as_str().unwrap()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_queue-exporter"))
            .arg("check")
            .env_clear()
            .envs([("REDIS_URL", redis.url().as_str()), ("QUEUES_FILE", file.path().to_str().unwrap())])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // A stream without a group can't be read; that the file is right is what counts.
        assert_ne!(output.status.code(), Some(64), "{values:?}: {}", String::from_utf8_lossy(&output.stderr));
        for object in all.iter().filter(|object| object.kind() == "ScaledObject") {
            let worker = object.value["metadata"]["labels"]["queue-exporter/worker"].as_str().unwrap();
            assert!(text.contains(worker), "{worker} in {text}");
        }
    }
}

#[test]
fn bad_values_get_one_clear_line() {
    for (set, line) in [
        ("workers.crawler.maxReplicas=1", "worker crawler: maxReplicas 1 is under minReplicas 2"),
        ("workers.crawler.scaleDownDepth=30", "worker crawler: scaleUpDepth 46 is under twice scaleDownDepth 30"),
        ("workers.crawler.queue=lisst:crawler", "worker crawler: unknown layout \"lisst\""),
        ("workers.crawler.queue=list:crawl*", "worker crawler: queue \"list:crawl*\" is a pattern"),
        ("workers.crawler.queue=list:crawler?name=x", "worker crawler: queue has an option name="),
        ("workers.crawler.queue=null", "at '/workers/crawler': missing property 'queue'"),
        ("workers.crawler.objectiveAge=0s", "worker crawler: objectiveAge is 0s; it must be over 0"),
        ("workers.crawler.objectiveAge=soon", "at '/workers/crawler/objectiveAge'"),
        ("workers.crawler.image.tag=", "worker crawler: image has neither tag nor digest"),
        ("workers.crawler.image.repository=", "worker crawler: image.repository is not set"),
        ("workers.crawler.kind=ScaledJob,workers.crawler.cpuUtilization=70", "cron scale Deployments only"),
        ("workers.crawler.kind=ScaledJob,workers.crawler.paused=scale-in", "only be paused as a whole"),
        ("workers.crawler.kind=ScaledJob,workers.crawler.spot.enabled=true", "spot.enabled needs a Deployment"),
        ("workers.crawler.spot.enabled=true,workers.crawler.maxReplicas=2", "leaves nothing for spot nodes"),
        ("workers.crawler.minReplica=3", "at '/workers/crawler': additional properties 'minReplica' not allowed"),
        ("workers.crawler.slots=0", "at '/workers/crawler/slots': minimum: got 0, want 1"),
        ("workers.crawler.deploymentName=a-name-of-fifty-five-characters-and-so-of-one-too-many-x", "may have 54"),
        ("exporter.replica=2", "at '/exporter': additional properties 'replica' not allowed"),
        ("trigger=redis", "at '/trigger': value must be one of 'prometheus', 'metrics-api', 'external-push'"),
        (
            "trigger=metrics-api,exporter.webConfig.secretName=web",
            "exporter.webConfig goes with trigger: prometheus or external-push",
        ),
        (
            "trigger=metrics-api,workers.labeler.spot.enabled=true",
            "worker labeler: spot.enabled needs trigger: prometheus or external-push",
        ),
        ("prometheus.address=prometheus:9090", "at '/prometheus/address'"),
    ] {
        for helm in ["helm3", "helm4"] {
            let arguments = ["template", "q", "keda/chart", "--kube-version", "1.35.0", "--set", set];
            let output = tool(helm, &arguments, "");
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{set} is taken");
            assert_eq!(text.lines().filter(|found| found.contains(line)).count(), 1, "{set}: {text}");
        }
    }
}

/// The chart names the layouts once more, for Helm can't ask the exporter.
#[test]
fn the_chart_knows_every_layout() {
    let helpers = std::fs::read_to_string(format!("{ROOT}/keda/chart/templates/_workers.tpl")).unwrap();
    let line = helpers.lines().find(|line| line.contains("$layouts := list")).unwrap();
    let named: BTreeSet<&str> = line.split('"').skip(1).step_by(2).collect();
    assert_eq!(named, TABLE.iter().map(|entry| entry.name).collect());
    // README's third column: in flight
    let readme = std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap();
    for entry in TABLE.iter().filter(|entry| !["list", "zset", "stream"].contains(&entry.name)) {
        let row = readme.lines().find(|row| row.starts_with(&format!("| [{}](", entry.name))).unwrap();
        let known = row.split('|').nth(3).unwrap().contains('●');
        let set = format!("trigger=prometheus,workers.crawler.queue={}:q", entry.name);
        let all = objects(&render("helm3", "1.35.0", &["--set", &set]));
        let crawler = all.iter().find(|object| object.kind() == "ScaledObject").unwrap();
        assert_eq!(crawler.text.contains("name: in_flight"), known, "{}", entry.name);
    }
}

#[test]
fn a_row_says_what_is_scaled() {
    let all = objects(&render("helm3", "1.35.0", &["--values", "tests/chart/values/spot.yaml"]));
    let find = |kind: &str, name: &str| all.iter().find(|it| it.kind() == kind && it.name() == name).expect(name);
    let scaled = &find("ScaledObject", "parser-worker").value["spec"];
    assert_eq!(scaled["scaleTargetRef"]["name"], "parser-worker-spot");
    assert_eq!((&scaled["minReplicaCount"], &scaled["maxReplicaCount"]), (&0.into(), &13.into()));
    assert_eq!(find("Deployment", "parser-worker").value["spec"]["replicas"], 2);
    let spot = find("Deployment", "parser-worker-spot");
    assert!(spot.value["spec"]["replicas"].is_null(), "an upgrade would undo the autoscaler's number");
    let pod = &spot.value["spec"]["template"]["spec"];
    assert_eq!(pod["tolerations"][0]["value"], "spot");
    assert!(spot.text.contains("operator: In,"));
    assert!(find("Deployment", "parser-worker").text.contains("operator: NotIn,"));

    let all = objects(&render("helm3", "1.35.0", &["--values", "tests/chart/values/zero.yaml"]));
    let find = |name: &str| &all.iter().find(|it| it.kind() == "ScaledObject" && it.name() == name).expect(name).value;
    assert_eq!(find("crawler-worker")["spec"]["cooldownPeriod"], 900);
    assert_eq!(find("crawler-worker")["spec"]["fallback"]["replicas"], 1, "0 would let a fault take the last away");
    assert_eq!(find("labeler-worker")["metadata"]["annotations"]["autoscaling.keda.sh/paused-scale-in"], "true");
    assert_eq!(find("ocr-worker")["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"], "5");

    // A false, a 0 and an empty map in a row stand against a default.
    let all = objects(&render("helm3", "1.35.0", &["--values", "tests/chart/values/libraries.yaml"]));
    let mail = all.iter().find(|it| it.kind() == "Deployment" && it.name() == "mail-worker").unwrap();
    let container = &mail.value["spec"]["template"]["spec"]["containers"][0];
    assert!(container["startupProbe"].is_null() && container["readinessProbe"].is_null());
    assert!(container["livenessProbe"]["httpGet"].is_null());
    assert!(container["livenessProbe"]["exec"].is_object());
}

/// In the order in which kubectl takes the files: KEDA refuses to scale by CPU what is not there yet.
const RENDERED: [(&str, &str); 3] =
    [("deployments", "worker-"), ("exporter", "exporter-"), ("scaledobjects", "scaledobjects")];

/// For `kubectl apply`, in the form that every version of Kubernetes takes.
#[test]
fn golden_rendered_manifests_are_fresh() {
    let all = objects(&render("helm3", "1.34.0", &[]));
    assert!(RENDERED.is_sorted());
    for (file, sources) in RENDERED {
        let mut text = "# The chart's output for its defaults: made by `make golden`, not by hand.\n".to_string();
        for object in all.iter().filter(|object| object.source.starts_with(sources)) {
            // Helm does not manage what kubectl applies.
            let kept = |line: &&str| !line.contains("helm.sh/chart: ") && !line.contains("managed-by: Helm");
            let lines: String = object.text.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
            write!(text, "---\n{lines}").unwrap();
        }
        golden(&format!("keda/rendered/{file}.yaml"), &text);
    }
}

/// What the chart writes of its table's prices: `tests/alerts/prices.test.yaml` reckons with it.
#[test]
fn golden_prices_are_those_of_the_table() {
    let prices = |values: &str| {
        let values = format!("tests/chart/values/{values}.yaml");
        let all = objects(&render("helm3", "1.35.0", &["--values", &values, "--set", "prometheusRule.enabled=true"]));
        all.into_iter().find(|object| object.source == "exporter-prices.yaml").unwrap()
    };
    let rendered = prices("prices").text;
    let (_, rules) = rendered.split_once("\nspec:\n").unwrap();
    let lines: Vec<&str> = rules.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    let made = "# The chart's output for tests/chart/values/prices.yaml: made by `make golden`, not by hand.";
    golden("tests/golden/prices.rules.yaml", &format!("{made}\n{}\n", lines.join("\n")));

    // The defaults are those of the file for a Prometheus without the chart.
    let file = std::fs::read_to_string(format!("{ROOT}/alerts/prices.rules.yaml")).unwrap();
    let file: serde_json::Value = serde_saphyr::from_str(&file).unwrap();
    let common = file["groups"][0]["rules"].as_array().unwrap();
    let rendered = prices("defaults").value["spec"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert_eq!(&rendered[..common.len()], common);
    let one_for_each = ["crawler", "labeler", "ocr", "parser"].map(|name| format!("{name}-worker"));
    let of_rows: Vec<&str> =
        rendered[common.len()..].iter().map(|rule| rule["labels"]["deployment"].as_str().unwrap()).step_by(2).collect();
    assert_eq!(of_rows, one_for_each);
}

/// A chart takes only files of its own folder, and helm complains of links.
#[test]
fn golden_copies_in_the_chart_are_fresh() {
    // The chart writes its own prices.
    let own = "prices.rules.yaml";
    for (from, to, end) in [("alerts", "rules", ".rules.yaml"), ("dashboards", "dashboards", ".json")] {
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(end) && name != own)
                .collect()
        };
        for name in names(from) {
            let text = std::fs::read_to_string(format!("{ROOT}/{from}/{name}")).unwrap();
            golden(&format!("keda/chart/{to}/{name}"), &text);
        }
        assert_eq!(names(&format!("keda/chart/{to}")), names(from), "a copy has lost its original");
    }
}

fn golden(path: &str, text: &str) {
    let path = format!("{ROOT}/{path}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{path} is not fresh; run `make golden`");
}

#[test]
fn the_overlay_changes_namespace_images_and_addresses() {
    let built = objects(&print("kustomize", &["build", "keda/overlay"], ""));
    let chart = objects(&render("helm3", "1.34.0", &["--namespace", "jobs-staging"]));
    assert_eq!(built.len(), chart.len());
    for object in &built {
        assert_eq!(object.value["metadata"]["namespace"], "jobs-staging", "{}", object.name());
        if object.kind() == "Deployment" {
            let image = object.value["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
            assert!(image.starts_with("registry.example.com/"), "{image}");
        }
        if object.kind() == "ScaledObject" {
            let same = chart.iter().find(|it| it.kind() == "ScaledObject" && it.name() == object.name()).unwrap();
            assert_eq!(object.value["spec"], same.value["spec"]);
        }
    }
}
