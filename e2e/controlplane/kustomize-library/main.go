// kustomize as a library in one process: what a controller pays per build, without starting a program each time.
//
//	kustomize-library ROOT OUT < folders
//
// builds each folder named on standard input below ROOT. OUT is a folder for the results, <number>.yaml or <number>.err,
// or "-" to drop them.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func build(root, dir string) ([]byte, error) {
	// The options of `kustomize build --reorder=none --load-restrictor=LoadRestrictionsNone`.
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionNone
	options.LoadRestrictions = types.LoadRestrictionsNone
	objects, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), filepath.Join(root, dir))
	if err != nil {
		return nil, err
	}
	return objects.AsYaml()
}

func run(root, out string) error {
	lines := bufio.NewScanner(os.Stdin)
	for number := 0; lines.Scan(); number++ {
		text, err := build(root, lines.Text())
		if out == "-" {
			continue
		}
		name, content := "yaml", text
		if err != nil {
			name, content = "err", []byte(err.Error()+"\n")
		}
		if err := os.WriteFile(filepath.Join(out, fmt.Sprintf("%05d.%s", number, name)), content, 0o644); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: kustomize-library ROOT OUT < folders")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
