package main

import (
	"bufio"
	"errors"
	"fmt"
)

// confirm wants a whole "yes" from a person before the state is changed.
func (h *heldState) confirm(question string) error {
	if !h.terminal.stdin {
		return hinted(errors.New("no terminal to ask on"), "Give -auto-approve to do it without being asked, or -dry-run to see what it would do.")
	}
	fmt.Fprintf(h.out, "\n%s\n  Only 'yes' is accepted.\n\n  Enter a value: ", h.colour(h.terminal.stdout).paint(bold, question))
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(h.stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case <-h.ctx.Done():
		fmt.Fprintln(h.out)
		return errInterrupted
	case line := <-answer:
		fmt.Fprintln(h.out)
		if line == "yes\n" || line == "yes\r\n" {
			return nil
		}
	}
	return &exit{exitError, fmt.Errorf("%s cancelled; nothing was changed", h.command)}
}
