// formula FORMULA reads lines of name=value pairs and prints, for each, what KEDA's scaling modifiers make of the formula with these
// values: compiled and run as KEDA does it, over floats, wrapped in float().
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

func main() {
	var program *vm.Program
	lines := bufio.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		values := map[string]float64{}
		for _, pair := range strings.Fields(lines.Text()) {
			name, text, _ := strings.Cut(pair, "=")
			value, err := strconv.ParseFloat(text, 64)
			must(err)
			values[name] = value
		}
		if program == nil {
			compiled, err := expr.Compile("float("+os.Args[1]+")", expr.Env(values))
			must(err)
			program = compiled
		}
		result, err := expr.Run(program, values)
		must(err)
		value, ok := result.(float64)
		if !ok {
			must(fmt.Errorf("%v is no float", result))
		}
		// KEDA cuts the value off at a thousandth
		fmt.Fprintln(out, float64(int64(value*1000))/1000)
	}
	must(out.Flush())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "formula:", err)
		os.Exit(1)
	}
}
