"""The commands of launch/README.md, as written there, against fakes."""

import re
import subprocess

from tests.launch_scripts.fake_services import ROOT, make_services

TEXT = (ROOT / "launch" / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.S)


def paste(block: str, services) -> None:
    subprocess.run(["bash", "-ec", block], cwd=ROOT, env=services.environment, check=True)


def test_every_block_is_tried():
    heads = [block.split()[0] for block in BLOCKS]
    assert heads == ["launch/local.sh", "export", "launch/slurm.sh"]


def test_configs_are_there_and_fields_exist():
    from vit_jax_xfer.config import check_field
    from vit_jax_xfer.quickstart import load_config

    for block in BLOCKS:
        file = re.search(r"--config=configs/([a-z_]+\.py)", block).group(1)
        config = load_config(file, "")
        for field in re.findall(r"--config\.([a-z_.]+)=", block):
            check_field(config, field)
    check_field(config, re.search(r"`--config\.(checkpoint\.[a-z]+)`", TEXT).group(1))


def test_the_pods_commands(tmp_path):
    services = make_services(tmp_path)
    services.add("gcloud", "print('ACTIVE')")
    paste(BLOCKS[1], services)
    verbs = [call[4] for call in services.calls()]
    assert verbs == ["create", "describe", "describe", "scp", "ssh", "ssh", "ssh", "ssh", "delete"]
    assert "      sudo mount 10.0.0.2:/runs /mnt/runs; }\n" in services.calls()[4][-1]
    assert " --workdir=/mnt/runs/mae " in services.calls()[5][-1]


def test_slurms_commands(tmp_path):
    services = make_services(tmp_path)
    services.add("sbatch")
    services.add("tail")
    paste(BLOCKS[2], services)
    call, _ = services.calls()
    assert call[1:4] == ["--nodes=2", "--gpus-per-node=8", "--ntasks-per-node=8"]
    assert "--workdir=/shared/runs/distill" in call
