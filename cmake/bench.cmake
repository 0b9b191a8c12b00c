# SPDX-License-Identifier: Apache-2.0
# bench/<name>_kernels.c: one program each, timing kernels alone; built on request only.
foreach(name linear encoder)
    add_executable(bench_${name}_kernels EXCLUDE_FROM_ALL bench/${name}_kernels.c)
    target_include_directories(bench_${name}_kernels PRIVATE src include)
    kvern_link(bench_${name}_kernels base ops)
endforeach()

# What sessions cost, and the engine under load: through the public header alone.
foreach(name sessions workload engine_latency summaries)
    add_executable(bench_${name} EXCLUDE_FROM_ALL bench/${name}.c bench/measure.c bench/groups.c)
    target_link_libraries(bench_${name} PRIVATE kvern)
endforeach()
add_custom_target(bench_engine DEPENDS bench_workload bench_engine_latency bench_summaries)
