// helmlite renders a chart with the parts that Helm's own engine is made of (Go's text/template and
// the sprig functions), both of them Debian packages. It is for tests on machines that cannot have
// Helm: no dependencies, no hooks, no look into a cluster, no schema of values.
//
//	GO111MODULE=off GOPATH=$SCRATCH:/usr/share/gocode go build -o helmlite .
//	helmlite RELEASE CHART [VALUES.yaml …]
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

// versions answers .Capabilities.APIVersions.Has.
type versions []string

func (known versions) Has(asked string) bool {
	for _, version := range known {
		if version == asked {
			return true
		}
	}
	return false
}

// files answers .Files.Get.
type files string

func (chart files) Get(name string) string {
	content, err := os.ReadFile(filepath.Join(string(chart), name))
	if err != nil {
		return ""
	}
	return string(content)
}

func main() {
	if len(os.Args) < 3 {
		stop(errors.New("helmlite RELEASE CHART [VALUES.yaml …]"))
	}
	release, chart := os.Args[1], os.Args[2]
	values := load(filepath.Join(chart, "values.yaml"))
	for _, path := range os.Args[3:] {
		merge(values, load(path))
	}
	text, err := render(release, chart, values)
	if err != nil {
		stop(err)
	}
	fmt.Print(text)
}

func stop(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func load(path string) object {
	content, err := os.ReadFile(path)
	if err != nil {
		stop(err)
	}
	loaded := object{}
	if err := yaml.Unmarshal(content, &loaded); err != nil {
		stop(fmt.Errorf("%s: %w", path, err))
	}
	return loaded
}

// merge lays one set of values over another; null takes a value away, as in Helm.
func merge(under, over object) {
	for key, value := range over {
		inner, isObject := value.(object)
		below, wasObject := under[key].(object)
		switch {
		case isObject && wasObject:
			merge(below, inner)
		case value == nil:
			delete(under, key)
		default:
			under[key] = value
		}
	}
}

func render(release, chart string, values object) (string, error) {
	names, err := templates(chart)
	if err != nil {
		return "", err
	}
	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(chart, name))
		if err != nil {
			return "", err
		}
		if _, err := root.New(name).Parse(string(content)); err != nil {
			return "", err
		}
	}
	about := object{}
	for key, value := range load(filepath.Join(chart, "Chart.yaml")) {
		about[strings.ToUpper(key[:1])+key[1:]] = value
	}
	given := object{
		"Chart":  about,
		"Values": values,
		"Files":  files(chart),
		"Release": object{
			"Name": release, "Namespace": "default", "Service": "Helm",
			"IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
		"Template": object{"BasePath": "templates", "Name": ""},
		"Capabilities": object{
			"KubeVersion": object{"Version": "v1.34.0", "Major": "1", "Minor": "34"},
			"APIVersions": versions{"apps/v1", "policy/v1", "networking.k8s.io/v1"},
		},
	}
	var all strings.Builder
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "_") || !strings.HasSuffix(name, ".yaml") {
			continue
		}
		var one bytes.Buffer
		if err := root.ExecuteTemplate(&one, name, given); err != nil {
			return "", err
		}
		text := strings.TrimSpace(strings.ReplaceAll(one.String(), "<no value>", ""))
		if strings.Trim(text, "- \n") != "" {
			text = strings.TrimPrefix(text, "---\n")
			fmt.Fprintf(&all, "---\n# Source: %s\n%s\n", name, text)
		}
	}
	return all.String(), nil
}

func templates(chart string) ([]string, error) {
	var names []string
	folder := filepath.Join(chart, "templates")
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(chart, path)
		names = append(names, name)
		return err
	})
	sort.Strings(names)
	return names, err
}

// functions are sprig's, and those that Helm adds to them.
func functions(root *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	known["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	known["fromYaml"] = func(text string) (object, error) {
		value := object{}
		err := yaml.Unmarshal([]byte(text), &value)
		return value, err
	}
	known["toJson"] = func(value interface{}) (string, error) {
		text, err := json.Marshal(value)
		return string(text), err
	}
	known["lookup"] = func(...string) object { return object{} }
	known["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	known["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	known["include"] = func(name string, given interface{}) (string, error) {
		var text bytes.Buffer
		err := root.ExecuteTemplate(&text, name, given)
		return strings.ReplaceAll(text.String(), "<no value>", ""), err
	}
	known["tpl"] = func(source string, given interface{}) (string, error) {
		copied, err := root.Clone()
		if err != nil {
			return "", err
		}
		if copied, err = copied.New("tpl").Parse(source); err != nil {
			return "", err
		}
		var text bytes.Buffer
		err = copied.Execute(&text, given)
		return text.String(), err
	}
	return known
}
