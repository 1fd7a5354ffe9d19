// Package fuzz lets one fuzz target run under two engines: the one of `go test`
// and LLVM's libFuzzer, which makes ten times as many executions a second since
// it calls the target in its own process, and sees what comparisons wanted.
//
// A target ends in [Run] instead of F.Fuzz and is otherwise as always:
//
//	func FuzzDecode(f *testing.F) {
//		f.Add([]byte("seed"))
//		fuzz.Run(f, func(t *testing.T, data []byte) { … })
//	}
//
// Without the build tag libfuzzer, Run is F.Fuzz and nothing else. With it the
// test binary contains libFuzzer; `make fuzz ENGINE=libfuzzer` builds and runs
// it. Inputs that fail are written where `go test` writes and reads them.
package fuzz
