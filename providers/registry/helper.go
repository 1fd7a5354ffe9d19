package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ExecHelper runs credential helpers as programs, found in the directories of
// the PATH that env (in the form of os.Environ) holds, which must be absolute:
// a helper is never taken from a working directory. The child gets env.
func ExecHelper(env []string) RunHelper {
	return func(ctx context.Context, name, server string) ([]byte, error) {
		program, err := findHelper(env, "docker-credential-"+name)
		if err != nil {
			return nil, err
		}
		out := &capped{limit: helperCap}
		cmd := exec.CommandContext(ctx, program, "get")
		cmd.Env = env
		cmd.Stdin = strings.NewReader(server)
		cmd.Stdout = out
		cmd.WaitDelay = time.Second
		err = cmd.Run()
		switch {
		case out.over:
			return nil, fmt.Errorf("its answer is %w of %d bytes", errMore, helperCap)
		case err != nil && strings.Contains(out.buffer.String(), errNoCredentials.Error()):
			return nil, errNoCredentials
		case err != nil:
			return nil, fmt.Errorf("it failed: %w", err)
		}
		return out.buffer.Bytes(), nil
	}
}

func findHelper(env []string, program string) (string, error) {
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	for _, pair := range env {
		key, value, _ := strings.Cut(pair, "=")
		if key != "PATH" && !(runtime.GOOS == "windows" && strings.EqualFold(key, "PATH")) {
			continue
		}
		for _, dir := range filepath.SplitList(value) {
			if !filepath.IsAbs(dir) {
				continue
			}
			// An absolute path is looked at as it is, not searched for.
			if found, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
				return found, nil
			}
		}
	}
	return "", errors.New("the program is not in any absolute directory of PATH")
}

// capped takes output up to a limit. The buffer is not embedded: its ReadFrom
// would go past the limit.
type capped struct {
	buffer bytes.Buffer
	limit  int
	over   bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.buffer.Len()+len(p) > c.limit {
		c.over = true
		return 0, errMore
	}
	return c.buffer.Write(p)
}
