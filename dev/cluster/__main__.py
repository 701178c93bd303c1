"""``python -m dev.cluster``: build, up, down, list, which, image."""

import argparse
import os
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dev.cluster import artifacts, base_images, images, lifecycle, records
from dev.cluster.errors import Failure


def main() -> int:
    """Run the command line; what it makes goes to stdout, all else to stderr."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build what a cluster needs, start nothing")
    _add_form(build)
    build.set_defaults(run=_build)

    up = commands.add_parser("up", help="bring a cluster up; prints its kubeconfig's path")
    _add_form(up)
    _add_name(up)
    up.add_argument("--kubeconfig", type=Path, metavar="FILE", help="copy the kubeconfig there")
    up.add_argument("--owner-pid", type=int, metavar="PID", help="stale once PID has ended")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="remove a cluster, whatever state it is in")
    which = down.add_mutually_exclusive_group()
    _add_name(which)
    which.add_argument("--all", action="store_true", help="every cluster")
    which.add_argument("--stale", action="store_true", help="those whose owner has ended")
    down.set_defaults(run=_down)

    listing = commands.add_parser("list", help="name, form, state and kubeconfig of each")
    listing.set_defaults(run=_list)

    which_ = commands.add_parser("which", help="the path of an artifact, built where absent")
    which_.add_argument("artifact", help=", ".join(artifacts.names()))
    which_.set_defaults(run=_which)

    image = commands.add_parser("image", help="container images without a registry")
    actions = image.add_subparsers(required=True, metavar="ACTION")
    make = actions.add_parser("build", help="build a Dockerfile; prints the archive's path")
    make.add_argument("image", metavar="NAME", help="e.g. localhost/sidecar:dev")
    make.add_argument("--file", type=Path, default=Path("Dockerfile"))
    make.add_argument("--context", type=Path, default=Path())
    make.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE")
    make.set_defaults(run=_build_image)
    load = actions.add_parser("load", help="load an archive into a node")
    load.add_argument("archive", type=Path)
    _add_name(load)
    load.set_defaults(run=_load_image)
    return parser


def _add_form(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--form", choices=records.FORMS, default="control-plane")


def _add_name(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--name", default=lifecycle.DEFAULT_NAME)


def _build(arguments: argparse.Namespace) -> None:
    # Side by side: one waits for packages and disks while the other compiles.
    with ThreadPoolExecutor() as threads:
        under_way: list[Future[object]] = [
            threads.submit(
                artifacts.all_ready,
                artifacts.names_of(arguments.form, artifacts.chosen_kubernetes()).values(),
            )
        ]
        if arguments.form in records.NODE_FORMS:
            under_way.append(threads.submit(base_images.ready))
    for one in under_way:
        one.result()


def _up(arguments: argparse.Namespace) -> None:
    cluster = lifecycle.up(form=arguments.form, name=arguments.name, owner_pid=arguments.owner_pid)
    path = cluster.kubeconfig
    if arguments.kubeconfig:
        path = arguments.kubeconfig.absolute()
        shutil.copyfile(cluster.kubeconfig, path)
        os.chmod(path, 0o600)  # noqa: PTH101 - beside shutil's copy
    print(path)


def _down(arguments: argparse.Namespace) -> None:
    if arguments.all:
        removed = lifecycle.down_all()
    elif arguments.stale:
        removed = lifecycle.down_stale()
    else:
        lifecycle.down(arguments.name)
        removed = [arguments.name]
    for name in removed:
        print(f"cluster {name} is down", file=sys.stderr)


def _list(_: argparse.Namespace) -> None:
    for line in lifecycle.listing():
        print(line)


def _which(arguments: argparse.Namespace) -> None:
    print(artifacts.ready(arguments.artifact))


def _build_image(arguments: argparse.Namespace) -> None:
    pairs = (pair.partition("=") for pair in arguments.build_arg)
    print(
        images.build(
            arguments.image,
            file=arguments.file,
            context=arguments.context,
            build_arguments={key: value for key, _, value in pairs},
        )
    )


def _load_image(arguments: argparse.Namespace) -> None:
    images.load(arguments.archive, name=arguments.name)


if __name__ == "__main__":
    sys.exit(main())
