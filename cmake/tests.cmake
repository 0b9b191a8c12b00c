# SPDX-License-Identifier: Apache-2.0
# tests/<module>/test_<file>.c: one CMocka program each, linked with its module and those below.
# tests/fuzz/fuzz_<parser>.c: LLVMFuzzerTestOneInput; in a plain build replay.c runs its corpus and
# seeded mutations of it, in a KVERN_FUZZ build libFuzzer does. The timeouts only end what hangs.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(GOLDEN_DIR ${CMAKE_BINARY_DIR}/golden)
set(TEST_DEFINITIONS KVERN_SOURCE_DIR="${CMAKE_SOURCE_DIR}" KVERN_BUILD_DIR="${CMAKE_BINARY_DIR}"
                     KVERN_GOLDEN_DIR="${GOLDEN_DIR}")

# Whole models out of tests/golden, which holds the weights of most as a seed.
set(GOLDEN_GROUPS exports t5-exports tiny)
set(golden_sources "")
foreach(group ${GOLDEN_GROUPS})
    file(GLOB_RECURSE files CONFIGURE_DEPENDS tests/golden/${group}/*)
    list(APPEND golden_sources ${files})
endforeach()
add_executable(expand_golden tests/support/expand_golden.c tests/convert/support_seeded.c)
target_include_directories(expand_golden PRIVATE src include tests)
target_compile_definitions(expand_golden PRIVATE ${TEST_DEFINITIONS})
target_link_libraries(expand_golden PRIVATE PkgConfig::CMOCKA PkgConfig::JANSSON)
kvern_link(expand_golden base)
add_custom_command(OUTPUT ${GOLDEN_DIR}/made
                   COMMAND expand_golden ${CMAKE_SOURCE_DIR}/tests/golden ${GOLDEN_DIR} ${GOLDEN_GROUPS}
                   COMMAND ${CMAKE_COMMAND} -E touch ${GOLDEN_DIR}/made
                   DEPENDS expand_golden ${golden_sources})
add_custom_target(golden_files ALL DEPENDS ${GOLDEN_DIR}/made)

# tests of the command compile its sources in, all but main.c
file(GLOB cli_tested CONFIGURE_DEPENDS src/cli/*.c)
list(FILTER cli_tested EXCLUDE REGEX "/main\\.c$")

foreach(module base text ops ort convert model engine summary cli system)
    file(GLOB tests CONFIGURE_DEPENDS tests/${module}/test_*.c)
    file(GLOB helpers CONFIGURE_DEPENDS tests/${module}/support_*.c)
    if(module STREQUAL system) # its bad files begin as good ones; it has tokenizers' goldens
        list(APPEND helpers tests/convert/support_gguf.c tests/convert/support_seeded.c
             tests/text/support_golden.c)
    elseif(module STREQUAL "convert")
        list(APPEND helpers tests/text/support_golden.c)
    elseif(module STREQUAL "cli") # its prompts need a model
        list(APPEND helpers tests/convert/support_gguf.c tests/system/support_files.c
             tests/system/support_small.c)
    endif()
    foreach(test ${tests})
        get_filename_component(name ${test} NAME_WE)
        add_executable(${name} ${test} ${helpers})
        if(module STREQUAL "cli")
            target_sources(${name} PRIVATE ${cli_tested})
            target_link_libraries(${name} PRIVATE PkgConfig::JANSSON)
        endif()
        target_include_directories(${name} PRIVATE src include tests)
        target_compile_definitions(${name} PRIVATE ${TEST_DEFINITIONS})
        target_link_libraries(${name} PRIVATE PkgConfig::CMOCKA)
        add_dependencies(${name} golden_files)
        kvern_link(${name} ${KVERN_BELOW_${module}})
        add_test(NAME ${name} COMMAND ${name})
        set_tests_properties(${name} PROPERTIES TIMEOUT 1800 LABELS ${module})
    endforeach()
endforeach()

# the longest come first, so that none is left alone at the end
set_tests_properties(test_exactness test_embed_minilm test_schedules test_command_summarize
                     test_parity PROPERTIES COST 1000)

file(GLOB fuzzers CONFIGURE_DEPENDS tests/fuzz/fuzz_*.c)
foreach(fuzzer ${fuzzers})
    get_filename_component(name ${fuzzer} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" corpus ${name})
    if(KVERN_FUZZ)
        add_executable(${name} ${fuzzer})
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    else()
        add_executable(${name} ${fuzzer} tests/fuzz/replay.c)
        add_test(NAME ${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${corpus})
        set_tests_properties(${name} PROPERTIES TIMEOUT 1800 LABELS fuzz)
    endif()
    target_include_directories(${name} PRIVATE src include tests)
    target_compile_definitions(${name} PRIVATE ${TEST_DEFINITIONS})
    add_dependencies(${name} golden_files)
    kvern_link(${name} ${KVERN_BELOW_summary})
endforeach()

# What strangers do with the finished libraries. A sanitized library needs a sanitized program.
if(NOT KVERN_SANITIZE AND NOT KVERN_TSAN AND NOT KVERN_FUZZ)
    add_test(NAME test_install COMMAND sh ${CMAKE_SOURCE_DIR}/tests/system/test_install.sh
                                       ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    find_package(Python3 COMPONENTS Interpreter)
    if(Python3_FOUND)
        add_test(NAME test_ops_python
                 COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/system/test_ops_python.py
                         ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
        set_tests_properties(test_ops_python PROPERTIES SKIP_RETURN_CODE 77)
    endif()
    add_test(NAME test_manual COMMAND sh ${CMAKE_SOURCE_DIR}/tests/system/test_manual.sh
                                      ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    set_tests_properties(test_install test_manual PROPERTIES LABELS system TIMEOUT 300)
endif()
