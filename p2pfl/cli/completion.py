"""`p2pfl completion`: the scripts with which shells complete `p2pfl`, printed or installed."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from p2pfl.cli.completing import COMPLETE_VARIABLE, FILES, FOLDERS


class Shell(StrEnum):
    """The shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


BASH = """\
# Completion of p2pfl for bash, made by `p2pfl completion bash`.
_p2pfl_completion() {
    local value help current=${COMP_WORDS[COMP_CWORD]}
    [[ $current == "=" ]] && current=
    COMPREPLY=()
    while IFS=$'\\t' read -r value help; do
        case $value in
            'FILES') _p2pfl_paths -f "$current" ;;
            'FOLDERS') _p2pfl_paths -d "$current" ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done < <(VARIABLE=bash "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
_p2pfl_paths() {
    local path
    compopt -o filenames 2>/dev/null
    while IFS= read -r path; do COMPREPLY+=("$path"); done < <(compgen "$1" -- "$2")
}
complete -F _p2pfl_completion p2pfl
"""

ZSH = """\
#compdef p2pfl
# Completion of p2pfl for zsh, made by `p2pfl completion zsh`.
_p2pfl() {
    local line value
    local -a found
    while IFS= read -r line; do
        value=${line%%$'\\t'*}
        case $value in
            'FILES') compset -P '--*='; _files ;;
            'FOLDERS') compset -P '--*='; _files -/ ;;
            *) found+=("${value//:/\\\\:}:${line#*$'\\t'}") ;;
        esac
    done < <(VARIABLE=zsh "${words[1]}" "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#found )) && _describe -V p2pfl found
}
if [[ $funcstack[1] == _p2pfl ]]; then _p2pfl "$@"; else compdef _p2pfl p2pfl; fi
"""

FISH = """\
# Completion of p2pfl for fish, made by `p2pfl completion fish`.
function __p2pfl_complete
    set -l token (commandline -ct)
    set -l lead (string match -r -- '^--[^=]*=' $token; or echo '')
    set -l words (commandline -opc) "$token"
    for line in (env VARIABLE=fish $words[1] $words[2..-1] 2>/dev/null)
        switch $line
            case 'FILES*'
                printf '%s\\n' $lead(__fish_complete_path (string replace -- "$lead" '' $token))
            case 'FOLDERS*'
                printf '%s\\n' $lead(__fish_complete_directories (string replace -- "$lead" '' $token))
            case '*'
                echo $line
        end
    end
end
complete -c p2pfl -f -a '(__p2pfl_complete)'
"""

SCRIPTS = {Shell.BASH: BASH, Shell.ZSH: ZSH, Shell.FISH: FISH}

ZSH_LINES = "fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit"
"""What a user of zsh adds to `~/.zshrc`: zsh has no folder of its own for a user's completions."""


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
    install: Annotated[
        bool, typer.Option("--install", help="Write it where the shell finds it, in place of printing it.")
    ] = False,
) -> None:
    """Print what makes a shell complete commands, options and their values; or install it."""
    from p2pfl.store.durable import disk_errors

    if not install:
        typer.echo(script_of(shell), nl=False)
        return
    path = place_of(shell)
    with disk_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script_of(shell), encoding="utf-8")
    advice = f"Add to ~/.zshrc: {ZSH_LINES}" if shell is Shell.ZSH else "It holds in the next shell."
    typer.echo(f"Wrote {path}. {advice}")


def script_of(shell: Shell) -> str:
    """Return the script for *shell*."""
    text = SCRIPTS[shell]
    for name, value in (("VARIABLE", COMPLETE_VARIABLE), ("FILES", FILES), ("FOLDERS", FOLDERS)):
        text = text.replace(name, value)
    return text


def place_of(shell: Shell) -> Path:
    """Return the file that *shell* reads the completion of p2pfl from, for this user."""
    home = Path("~").expanduser()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return {
        Shell.BASH: data / "bash-completion" / "completions" / "p2pfl",
        Shell.ZSH: home / ".zfunc" / "_p2pfl",
        Shell.FISH: config / "fish" / "completions" / "p2pfl.fish",
    }[shell]
