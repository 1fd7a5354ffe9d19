package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"freightliner/config"
)

func (p *program) validateCommand() *cobra.Command {
	var vars variableFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration without any registry",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			values, err := vars.variables(cmd, p.env)
			if err != nil {
				return err
			}
			return p.validate(values, asJSON)
		},
	}
	vars.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// validation is what validate -json prints, with Terraform's member names.
type validation struct {
	Format      string            `json:"format_version"`
	Valid       bool              `json:"valid"`
	Errors      int               `json:"error_count"`
	Warnings    int               `json:"warning_count"`
	Diagnostics []*jsonDiagnostic `json:"diagnostics"`
}

func (p *program) validate(vars config.Variables, asJSON bool) error {
	root, err := os.OpenRoot(".")
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	defer root.Close()
	_, diags := config.Load(root.FS(), ".", vars, config.Options{Version: buildVersion(), ReadFile: readSmallFile})
	result := validation{Format: "1.0", Valid: !diags.HasErrors(), Diagnostics: []*jsonDiagnostic{}}
	for i := range diags {
		if diags[i].Warning {
			result.Warnings++
		} else {
			result.Errors++
		}
		result.Diagnostics = append(result.Diagnostics, diagnosticOf(&diags[i]))
	}
	if asJSON {
		p.printJSON(result)
	} else {
		diagnosticText{p.stderr, p.colour(p.terminal.stderr)}.write(diags)
	}
	if !result.Valid {
		return &exit{code: exitError}
	}
	if !asJSON {
		fmt.Fprintf(p.stdout, "%s The configuration is valid.\n", p.colour(p.terminal.stdout).paint(green, "Success!"))
	}
	return nil
}

// printJSON prints one document.
func (p *program) printJSON(v any) { p.stdout.Write(indentedJSON(v)) }

// indentedJSON is one document, indented for eyes.
func indentedJSON(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // our own types of strings and numbers always encode
	}
	return append(ascii(b), '\n')
}
