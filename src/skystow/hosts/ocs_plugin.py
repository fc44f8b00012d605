"""What OCS finds under the entry point group `ocs.plugins`: its launcher and HostManager start agents by class."""

package_name = "skystow"
agents = {
    "PysmurfArchiverAgent": {"module": "skystow.hosts.pysmurf_archiver", "entry_point": "main"},
    "PysmurfMonitor": {"module": "skystow.hosts.pysmurf_monitor", "entry_point": "main"},
}
