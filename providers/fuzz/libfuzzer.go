//go:build fuzzengine

package fuzz

// #cgo LDFLAGS: -lstdc++ -lm
// #include <stdint.h>
// #include <stdlib.h>
// int freightlinerFuzz(int argc, char **argv, uint8_t *counters, uint8_t *end);
import "C"

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// What the process is to do with the target that -test.run names. Without any
// of these it tries the seeds, as always.
var (
	seedsTo     = os.Getenv("FREIGHTLINER_FUZZ_SEEDS")  // write all seeds there, in libFuzzer's form
	corpusFrom  = os.Getenv("FREIGHTLINER_FUZZ_IMPORT") // add inputs of this directory to testdata/fuzz
	seedsBeside = os.Getenv("FREIGHTLINER_FUZZ_BESIDE") // the seeds that these are to add something to
	arguments   = os.Getenv("FREIGHTLINER_FUZZ_RUN")    // run libFuzzer with these arguments
)

// target is what libFuzzer calls: there is one in a process.
var target struct {
	t        *testing.T
	name     string
	property reflect.Value
	types    []reflect.Type
}

// Run fuzzes property, a function as F.Fuzz wants it, or tries it on the seeds.
func Run(f *testing.F, property any) {
	f.Helper()
	if seedsTo == "" && corpusFrom == "" && arguments == "" {
		f.Fuzz(property)
		return
	}
	target.name, target.property = f.Name(), reflect.ValueOf(property)
	for i := 1; i < target.property.Type().NumIn(); i++ {
		target.types = append(target.types, target.property.Type().In(i))
	}
	// F.Fuzz calls what it is given with each seed: that is how they get out, and
	// how libFuzzer gets a T that is alive, in the first call, which does not end.
	f.Fuzz(reflect.MakeFunc(target.property.Type(), func(args []reflect.Value) []reflect.Value {
		t := args[0].Interface().(*testing.T)
		if seedsTo != "" {
			input := join(args[1:])
			save(t, filepath.Join(seedsTo, sum(input)), input)
			return nil
		}
		target.t = t
		if corpusFrom != "" {
			keepFew(seedsBeside, corpusFrom)
			os.Exit(0)
		}
		drive(append([]string{target.name}, strings.Fields(arguments)...))
		return nil
	}).Interface())
}

// The counters that `-gcflags=-d=libfuzzer` puts into every branch: the linker
// gives their bounds to the engine of `go test`, and with -checklinkname=0 to us.
// Go's own build tag libfuzzer would also report every comparison, which takes
// ten times as long as what is tested.
//
//go:linkname counters internal/fuzz._counters
//go:linkname countersEnd internal/fuzz._ecounters
var counters, countersEnd byte

// drive hands the process to libFuzzer, which ends it.
func drive(args []string) {
	argv := make([]*C.char, len(args)+1) // ends in a null pointer; never freed, as C keeps it
	for i, arg := range args {
		argv[i] = C.CString(arg)
	}
	C.freightlinerFuzz(C.int(len(args)), &argv[0], (*C.uint8_t)(&counters), (*C.uint8_t)(&countersEnd))
}

// keepFew adds to the corpus of `go test` the inputs that reach a branch which no
// seed and no smaller input reaches.
func keepFew(seeds, found string) {
	branches := unsafe.Slice(&counters, uintptr(unsafe.Pointer(&countersEnd))-uintptr(unsafe.Pointer(&counters)))
	reached := make([]bool, len(branches))
	for _, dir := range []string{seeds, found} {
		for _, input := range bySize(dir) {
			clear(branches)
			try(input)
			more := false
			for i, n := range branches {
				more = more || n > 0 && !reached[i]
				reached[i] = reached[i] || n > 0
			}
			if more && dir == found {
				keep(target.t, input)
			}
		}
	}
}

func bySize(dir string) (inputs [][]byte) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		target.t.Fatal(err)
	}
	for _, e := range entries {
		input, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			target.t.Fatal(err)
		}
		inputs = append(inputs, input)
	}
	slices.SortStableFunc(inputs, func(a, b []byte) int { return len(a) - len(b) })
	return inputs
}

//export freightlinerFuzzOne
func freightlinerFuzzOne(data *C.uint8_t, size C.size_t) C.int {
	try(unsafe.Slice((*byte)(data), int(size)))
	return 0
}

// try calls the target with an input. One that fails is kept, and ends the process.
func try(input []byte) {
	passed := false
	defer func() {
		if passed {
			return
		}
		// A panic, or FailNow, which ends the goroutine and comes through here.
		if v := recover(); v != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", v, debug.Stack())
		}
		fmt.Fprintf(os.Stderr, "%s failed; again: go test -run '%s/%s'\n", target.name, target.name, keep(target.t, input))
		os.Exit(1)
	}()
	args := make([]reflect.Value, 1, 4)
	args[0] = reflect.ValueOf(target.t)
	target.property.Call(append(args, split(input)...))
	passed = !target.t.Failed()
}

// join makes one input of arguments: each but the last begins with its length.
// Two bytes are enough for what the targets take.
func join(args []reflect.Value) []byte {
	var b []byte
	for i, arg := range args {
		var part []byte
		switch v := arg.Interface().(type) {
		case []byte:
			part = v
		case string:
			part = []byte(v)
		case byte:
			b = append(b, v)
			continue
		default:
			panic(fmt.Sprintf("fuzz: no form for an argument of type %T", v))
		}
		if i < len(args)-1 {
			b = binary.LittleEndian.AppendUint16(b, uint16(len(part)))
		}
		b = append(b, part...)
	}
	return b
}

// split makes arguments of any input.
func split(input []byte) []reflect.Value {
	args := make([]reflect.Value, len(target.types))
	for i, of := range target.types {
		if of.Kind() == reflect.Uint8 {
			var b byte
			if len(input) > 0 {
				b, input = input[0], input[1:]
			}
			args[i] = reflect.ValueOf(b)
			continue
		}
		part := input
		if i < len(args)-1 {
			length := 0
			if len(input) >= 2 {
				length, input = int(binary.LittleEndian.Uint16(input)), input[2:]
			}
			length = min(length, len(input))
			part, input = input[:length], input[length:]
		}
		// A copy: the target may keep it, and the memory is libFuzzer's.
		args[i] = reflect.ValueOf(string(part)).Convert(of)
	}
	return args
}

// keep adds an input to the corpus of `go test` and gives its name there.
func keep(t *testing.T, input []byte) string {
	text := "go test fuzz v1\n"
	for _, arg := range split(input) {
		switch v := arg.Interface().(type) {
		case []byte:
			text += fmt.Sprintf("[]byte(%q)\n", v)
		case string:
			text += fmt.Sprintf("string(%q)\n", v)
		case byte:
			text += fmt.Sprintf("byte(%q)\n", v)
		}
	}
	name := sum([]byte(text))
	save(t, filepath.Join("testdata", "fuzz", target.name, name), []byte(text))
	return name
}

func sum(b []byte) string {
	digest := sha256.Sum256(b)
	return hex.EncodeToString(digest[:8])
}

func save(t *testing.T, path string, b []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Error(err)
	}
}
