// Records what the HorizontalPodAutoscaler controller of Kubernetes decides, as a reference for our own model of it.
//
// record.sh compiles this file into the controller's own package, because the method that makes one sync is not
// exported. Time is that of a synctest bubble: it moves only when the recorder sleeps, so a series of minutes takes
// no time and every timestamp is exact.
package podautoscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	scaleclient "k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	metricsclient "k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/monitor"
	"k8s.io/kubernetes/pkg/controller/util/selectors"
	"k8s.io/kubernetes/pkg/features"
)

const (
	seed           = 35
	seriesCount    = 300
	syncsPerSeries = 50

	namespace = "default"
	name      = "worker"

	// The defaults of kube-controller-manager.
	defaultTolerance       = 0.1
	defaultDownscaleWindow = 5 * time.Minute
)

// The shape of the file that is written.

type series struct {
	Min      int32     `json:"min"`
	Max      int32     `json:"max"`
	Behavior *behavior `json:"behavior"`
	Metrics  []metric  `json:"metrics"`
	Syncs    []syncRow `json:"syncs"`
}

type behavior struct {
	Up   rules `json:"up"`
	Down rules `json:"down"`
}

type rules struct {
	Window    int32    `json:"window"`
	Select    string   `json:"select"`
	Policies  []policy `json:"policies"`
	Tolerance *float64 `json:"tolerance"`
}

type policy struct {
	Kind   string `json:"kind"`
	Value  int32  `json:"value"`
	Period int32  `json:"period"`
}

type metric struct {
	Kind   string `json:"kind"`
	Target int64  `json:"target"` // milli
}

type syncRow struct {
	At      int      `json:"at"`
	Spec    int32    `json:"spec"`
	Status  int32    `json:"status"`
	Ready   int32    `json:"ready"`
	Values  []*int64 `json:"values"` // milli; null for a metric that can't be read
	Desired int32    `json:"desired"`
}

// What surrounds the controller.

// world stands in for the API server and the metrics API.
type world struct {
	hpa    *autoscalingv2.HorizontalPodAutoscaler
	spec   int32
	status int32
	values []*int64
}

func metricName(i int) string { return fmt.Sprintf("m%d", i) }

type fakeMetrics struct{ *world }

func (f fakeMetrics) GetExternalMetric(asked, _ string, _ labels.Selector) ([]int64, time.Time, error) {
	for i, value := range f.values {
		if metricName(i) == asked {
			if value == nil {
				break
			}
			return []int64{*value}, time.Now(), nil
		}
	}
	return nil, time.Time{}, errors.New("no such value")
}

func (f fakeMetrics) GetResourceMetric(context.Context, v1.ResourceName, string, labels.Selector, string) (metricsclient.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errors.New("not recorded")
}

func (f fakeMetrics) GetRawMetric(string, string, labels.Selector, labels.Selector) (metricsclient.PodMetricsInfo, time.Time, error) {
	return nil, time.Time{}, errors.New("not recorded")
}

func (f fakeMetrics) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return 0, time.Time{}, errors.New("not recorded")
}

type fakeScales struct{ *world }

func (f fakeScales) Scales(string) scaleclient.ScaleInterface { return f }

func (f fakeScales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       autoscalingv1.ScaleSpec{Replicas: f.spec},
		Status:     autoscalingv1.ScaleStatus{Replicas: f.status, Selector: "app=" + name},
	}, nil
}

func (f fakeScales) Update(_ context.Context, _ schema.GroupResource, scale *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	f.spec = scale.Spec.Replicas
	return scale, nil
}

func (f fakeScales) Patch(context.Context, schema.GroupVersionResource, string, types.PatchType, []byte, metav1.PatchOptions) (*autoscalingv1.Scale, error) {
	panic("the controller doesn't patch a scale")
}

// The embedded interface is nil: a method that the controller isn't known to call fails loudly.
type fakeHPAs struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
	*world
}

func (f fakeHPAs) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return f
}

// Only the status is kept, as a status subresource does.
func (f fakeHPAs) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	f.hpa.Status = *hpa.Status.DeepCopy()
	return hpa, nil
}

// newController does what NewHorizontalController does, less its informers, queue and event broadcaster: their
// goroutines would outlive the bubble.
func newController(w *world, pods cache.Indexer) *HorizontalController {
	deployment := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{deployment.GroupVersion()})
	mapper.Add(deployment, meta.RESTScopeNamespace)
	lister := corelisters.NewPodLister(pods)
	controller := &HorizontalController{
		eventRecorder:                &record.FakeRecorder{},
		scaleNamespacer:              fakeScales{w},
		hpaNamespacer:                fakeHPAs{world: w},
		tolerance:                    defaultTolerance,
		downscaleStabilisationWindow: defaultDownscaleWindow,
		monitor:                      monitor.New(),
		mapper:                       mapper,
		recommendations:              map[string][]timestampedRecommendation{},
		scaleUpEvents:                map[string][]timestampedScaleEvent{},
		scaleDownEvents:              map[string][]timestampedScaleEvent{},
		hpaSelectors:                 selectors.NewBiMultimap(),
		podLister:                    lister,
		replicaCalc:                  NewReplicaCalculator(fakeMetrics{w}, lister, 5*time.Minute, 30*time.Second),
	}
	// enqueueHPA does this when the HPA is first seen.
	controller.hpaSelectors.PutSelector(selectors.Key{Namespace: namespace, Name: name}, labels.Nothing())
	return controller
}

// podList makes count pods, of which the first ready ones are ready. The others are in turn pending, and running but
// not ready.
func podList(count, ready int32) []interface{} {
	list := make([]interface{}, 0, count)
	for i := range count {
		pod := &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, i), Labels: map[string]string{"app": name}},
			Status:     v1.PodStatus{Phase: v1.PodRunning},
		}
		condition := v1.ConditionTrue
		if i >= ready {
			condition = v1.ConditionFalse
			if i%2 == 0 {
				pod.Status.Phase = v1.PodPending
			}
		}
		pod.Status.Conditions = []v1.PodCondition{{Type: v1.PodReady, Status: condition}}
		list = append(list, pod)
	}
	return list
}

// What is random.

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.Intn(len(from))] }

func oneIn(rng *rand.Rand, n int) bool { return rng.Intn(n) == 0 }

// With syncs a second or two apart a series is over before the long windows and periods are, so they are left out.
func randomRules(rng *rand.Rand, down, short bool) rules {
	windows, periods := []int32{0, 0, 15, 15, 30, 60, 120, 300}, []int32{15, 30, 60, 120}
	if short {
		windows, periods = windows[:6], periods[:2]
	}
	r := rules{Window: pick(rng, windows...), Select: pick(rng, "Max", "Min")}
	if oneIn(rng, 15) {
		r.Select = "Disabled"
	}
	for range 1 + rng.Intn(2) {
		p := policy{Kind: "Percent", Value: pick[int32](rng, 10, 25, 50, 100, 200), Period: pick(rng, periods...)}
		if oneIn(rng, 2) {
			p.Kind, p.Value = "Pods", int32(1+rng.Intn(10))
		}
		r.Policies = append(r.Policies, p)
	}
	tolerances := []float64{0, 0.05}
	if down {
		tolerances = append(tolerances, 0.8)
	}
	if oneIn(rng, 2) {
		tolerance := pick(rng, tolerances...)
		r.Tolerance = &tolerance
	}
	return r
}

func randomSeries(rng *rand.Rand, short bool) series {
	s := series{Min: int32(1 + rng.Intn(4))}
	s.Max = s.Min + 1 + int32(rng.Intn(40-int(s.Min)))
	if !oneIn(rng, 6) {
		s.Behavior = &behavior{Up: randomRules(rng, false, short), Down: randomRules(rng, true, short)}
	}
	for range 1 + rng.Intn(4) {
		s.Metrics = append(s.Metrics, metric{
			Kind:   pick(rng, "AverageValue", "Value"),
			Target: pick(rng, 7, 100, 250, 333, 1000, 1500, 5000, 10_000, 30_000, 100_000, int64(1+rng.Intn(20_000))),
		})
	}
	return s
}

func randomStart(rng *rand.Rand, s series) int32 {
	switch p := rng.Float64(); {
	case p < 0.02:
		return 0
	case p < 0.12:
		return 1 + int32(rng.Intn(int(s.Min)))
	case p < 0.22:
		return s.Max + 1 + int32(rng.Intn(2))
	}
	return 1 + int32(rng.Intn(int(s.Max)))
}

// load is the work that there is, in replicas: what one series' metrics have in common. If each metric went its own
// way, the highest of four would seldom fall.
type load struct {
	now, level, ceiling float64
	// How many syncs a level lasts on average.
	phase int
}

func (l *load) next(rng *rand.Rand) float64 {
	if oneIn(rng, l.phase) {
		l.level = rng.Float64() * l.ceiling
		if oneIn(rng, 6) {
			l.level = 0
		}
		if oneIn(rng, 3) {
			l.now = l.level
		}
	}
	// Now and then it stays as it was: windows and periods get the time to end.
	if !oneIn(rng, 4) {
		l.now += 0.3*(l.level-l.now) + 0.08*l.now*rng.NormFloat64()
	}
	l.now = max(l.now, 0)
	return l.now
}

// edge is a value at one of the tolerances' ends, or a milli unit beside it.
func edge(rng *rand.Rand, base int64, twentieths int64) int64 {
	return max(0, base*twentieths/20+pick[int64](rng, -1, 0, 0, 0, 1))
}

func randomValues(rng *rand.Rand, s series, l float64, shares []float64, status int32, calm bool) []int64 {
	twentieths := func() int64 { return pick[int64](rng, 0, 4, 18, 19, 20, 21, 22) }
	together, at := rng.Float64() < 0.12, twentieths()
	values := make([]int64, len(s.Metrics))
	for i, m := range s.Metrics {
		// An AverageValue target is one replica's part of the value, a Value target all of it.
		wanted, replicas := l*shares[i], int64(status)
		if m.Kind == "Value" {
			wanted, replicas = wanted/float64(max(1, status)), 1
		}
		values[i] = int64(math.Round(wanted * float64(m.Target)))
		switch p := rng.Float64(); {
		case calm:
		case together:
			values[i] = edge(rng, m.Target*replicas, at)
		case p < 0.05:
			values[i] = edge(rng, m.Target*replicas, twentieths())
		case p < 0.2:
			// Whole replicas, where rounding up begins.
			values[i] = edge(rng, m.Target*int64(math.Round(wanted)), 20)
		case p < 0.202:
			// More replicas than an int32 holds; still exact as a JSON number anywhere.
			values[i] = 4_000_000_000_000_000
		}
	}
	return values
}

// The recording.

func apiRules(r rules) *autoscalingv2.HPAScalingRules {
	choice := map[string]autoscalingv2.ScalingPolicySelect{
		"Max":      autoscalingv2.MaxChangePolicySelect,
		"Min":      autoscalingv2.MinChangePolicySelect,
		"Disabled": autoscalingv2.DisabledPolicySelect,
	}[r.Select]
	out := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &r.Window, SelectPolicy: &choice}
	for _, p := range r.Policies {
		out.Policies = append(out.Policies, autoscalingv2.HPAScalingPolicy{
			Type: autoscalingv2.HPAScalingPolicyType(p.Kind), Value: p.Value, PeriodSeconds: p.Period,
		})
	}
	if r.Tolerance != nil {
		quantity := resource.MustParse(fmt.Sprint(*r.Tolerance))
		out.Tolerance = &quantity
	}
	return out
}

func apiHPA(s series) *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
			MinReplicas:    &s.Min,
			MaxReplicas:    s.Max,
		},
	}
	if s.Behavior != nil {
		hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: apiRules(s.Behavior.Up), ScaleDown: apiRules(s.Behavior.Down),
		}
	}
	for i, m := range s.Metrics {
		quantity := resource.NewMilliQuantity(m.Target, resource.DecimalSI)
		target := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: quantity}
		if m.Kind == "AverageValue" {
			target = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: quantity}
		}
		hpa.Spec.Metrics = append(hpa.Spec.Metrics, autoscalingv2.MetricSpec{
			Type: autoscalingv2.ExternalMetricSourceType,
			External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: metricName(i)}, Target: target,
			},
		})
	}
	return hpa
}

func recordSeries(t *testing.T, rng *rand.Rand) series {
	interval := pick(rng, 15, 15, 15, 15, 15, 1, 2)
	s := randomSeries(rng, interval != 15)
	lag := pick(rng, 0, 0, 1, 2, 3)
	fails, unready := oneIn(rng, 3), oneIn(rng, 2)
	// No values at the edges. One of those can hold the replicas for as long as the window is, and without a behavior
	// that is most of a series.
	calm, phase := oneIn(rng, 4), 10
	if s.Behavior == nil {
		calm, phase = !oneIn(rng, 4), 25
	}

	shares, readsPods := make([]float64, len(s.Metrics)), false
	for i, m := range s.Metrics {
		shares[i] = 0.5 + 0.5*rng.Float64()
		readsPods = readsPods || m.Kind == "Value"
	}
	shares[rng.Intn(len(shares))] = 1

	w := &world{hpa: apiHPA(s), spec: randomStart(rng, s)}
	// The replicas that spec asked for, by sync: status runs behind them.
	asked := make([]int32, lag)
	// A new Deployment has none yet. A Value metric then fails for want of pods, which is not what is recorded here.
	isNew := oneIn(rng, 4) && !readsPods
	for i := range asked {
		if !isNew {
			asked[i] = w.spec
		}
	}
	work := load{now: float64(w.spec), level: float64(w.spec), ceiling: 1.2 * float64(s.Max), phase: phase}
	pods := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	controller := newController(w, pods)
	ctx := klog.NewContext(context.Background(), logr.Discard())

	start := time.Now()
	for range syncsPerSeries {
		asked = append(asked, w.spec)
		w.status = asked[len(asked)-1-lag]
		row := syncRow{At: int(time.Since(start).Seconds()), Spec: w.spec, Status: w.status, Ready: w.status}
		if unready && row.Status > 0 {
			row.Ready = max(1, row.Status-int32(rng.Intn(4)))
		}
		if err := pods.Replace(podList(row.Status, row.Ready), ""); err != nil {
			t.Fatal(err)
		}

		failed := false
		for _, value := range randomValues(rng, s, work.next(rng), shares, w.status, calm) {
			if fails && oneIn(rng, 20) {
				row.Values, failed = append(row.Values, nil), true
				continue
			}
			row.Values = append(row.Values, &value)
		}
		w.values = row.Values

		// An error that no failing metric explains would mean that the stand-ins are wrong.
		if err := controller.reconcileAutoscaler(ctx, w.hpa, namespace+"/"+name); err != nil && !failed {
			t.Fatal(err)
		}
		row.Desired = w.spec
		s.Syncs = append(s.Syncs, row)
		time.Sleep(time.Duration(interval) * time.Second)
	}
	return s
}

func TestRecord(t *testing.T) {
	path := os.Getenv("OUT")
	if path == "" {
		t.Fatal("OUT must name the file to write")
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.HPAConfigurableTolerance) {
		t.Fatal("HPAConfigurableTolerance is off: tolerances would be ignored")
	}

	rng := rand.New(rand.NewSource(seed))
	var out bytes.Buffer
	out.WriteString("[\n")
	for i := range seriesCount {
		synctest.Test(t, func(t *testing.T) {
			line, err := json.Marshal(recordSeries(t, rng))
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				out.WriteString(",\n")
			}
			out.Write(line)
		})
		if t.Failed() {
			t.Fatalf("series %d failed", i)
		}
	}
	out.WriteString("\n]\n")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
