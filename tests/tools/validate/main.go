// validate FILE_OR_FOLDER_OF_CRDS... reads manifests on its input and checks each custom resource as an API server would, by the
// API server's own code: types, required and unknown fields, and the CEL rules. It names each fault, and exits with 1 if
// there is any. ServiceMonitor and PodMonitor are checked against the operator's Go types.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	sigsyaml "sigs.k8s.io/yaml"
)

// resource is a custom resource's schema, as the API server keeps it.
type resource struct {
	structural *schema.Structural
	types      validation.SchemaValidator
	rules      *cel.Validator
}

func main() {
	resources := map[string]resource{}
	for _, path := range os.Args[1:] {
		must(filepath.Walk(path, func(path string, info os.FileInfo, err error) error {
			if err == nil && filepath.Ext(path) == ".yaml" {
				load(path, resources)
			}
			return err
		}))
	}
	faults := 0
	documents := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		text, err := documents.Read()
		if err == io.EOF {
			break
		}
		must(err)
		for _, fault := range check(text, resources) {
			fmt.Println(fault)
			faults++
		}
	}
	if faults > 0 {
		os.Exit(1)
	}
}

func check(text []byte, resources map[string]resource) []string {
	var object map[string]any
	encoded, err := sigsyaml.YAMLToJSON(text)
	must(err)
	// whole numbers stay whole, as in the API server
	must(json.Unmarshal(encoded, &object))
	if object == nil {
		return nil
	}
	version, kind := object["apiVersion"], object["kind"]
	name, _, _ := unstructured.NestedString(object, "metadata", "name")
	about := func(fault any) string { return fmt.Sprintf("%v %s: %v", kind, name, fault) }
	switch fmt.Sprintf("%v/%v", version, kind) {
	case "monitoring.coreos.com/v1/ServiceMonitor":
		return strict(text, &monitoring.ServiceMonitor{}, about)
	case "monitoring.coreos.com/v1/PodMonitor":
		return strict(text, &monitoring.PodMonitor{}, about)
	case "monitoring.coreos.com/v1/PrometheusRule":
		return strict(text, &monitoring.PrometheusRule{}, about)
	}
	known, ok := resources[fmt.Sprintf("%v/%v", version, kind)]
	if !ok {
		return []string{about(fmt.Sprintf("no schema for %v", version))}
	}
	var faults []string
	for _, unknown := range pruning.PruneWithOptions(runtime.DeepCopyJSON(object), known.structural, true,
		schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		faults = append(faults, about("unknown field "+unknown))
	}
	for _, fault := range validation.ValidateCustomResource(nil, object, known.types) {
		faults = append(faults, about(fault))
	}
	broken, _ := known.rules.Validate(context.Background(), field.NewPath(""), known.structural, object, nil, celconfig.RuntimeCELCostBudget)
	for _, fault := range broken {
		faults = append(faults, about(fault))
	}
	return faults
}

func strict(text []byte, into any, about func(any) string) []string {
	if err := sigsyaml.UnmarshalStrict(text, into); err != nil {
		return []string{about(err)}
	}
	return nil
}

func load(path string, resources map[string]resource) {
	text, err := os.ReadFile(path)
	must(err)
	var given apiextensionsv1.CustomResourceDefinition
	must(sigsyaml.Unmarshal(text, &given))
	scheme := runtime.NewScheme()
	install.Install(scheme)
	for _, version := range given.Spec.Versions {
		internal := &apiextensions.CustomResourceValidation{}
		must(scheme.Convert(version.Schema, internal, nil))
		structural, err := schema.NewStructural(internal.OpenAPIV3Schema)
		must(err)
		types, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
		must(err)
		name := fmt.Sprintf("%s/%s/%s", given.Spec.Group, version.Name, given.Spec.Names.Kind)
		resources[name] = resource{structural, types, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "validate:", err)
		os.Exit(2)
	}
}
